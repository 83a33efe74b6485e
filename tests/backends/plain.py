"""One cell trained the plain way of each framework, which is imported only when it is used."""

from tests.backends.programs import inputs


def plain_loop(study, cell):
    """Train one cell the way anyone would write it."""
    import torch

    from tasks.backends import pytorch

    fold, order, weights = inputs(pytorch, study, cell)
    recipe = study.recipe_for("pytorch")
    model = pytorch.perceptron(study.network, (4, *study.network.hidden, 3))
    with torch.no_grad():
        for parameter, array in zip(model.parameters(), weights, strict=True):
            parameter.copy_(torch.from_numpy(array.T))
    optimizer = (
        torch.optim.SGD(model.parameters(), lr=recipe.learning_rate)
        if recipe.optimizer == "sgd"
        else torch.optim.Adam(model.parameters(), lr=recipe.learning_rate)
    )
    x, y = torch.from_numpy(fold.x_train), torch.from_numpy(fold.y_train)
    size = len(y) if recipe.batch_size == "full" else recipe.batch_size
    for epoch in torch.from_numpy(order).long():
        for rows in epoch.split(size):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
    x_test, y_test = torch.from_numpy(fold.x_test), torch.from_numpy(fold.y_test)
    with torch.no_grad():
        loss = torch.nn.functional.cross_entropy(model(x_test), y_test).item()
    return {name: p.detach().numpy() for name, p in model.named_parameters()}, loss


def fitted(study, cell):
    """Train one cell with compile and fit."""
    import keras as keras_package

    from tasks.backends import keras

    fold, _, weights = inputs(keras, study, cell)
    recipe = study.recipe_for("keras")
    model = keras.perceptron(study.network, (4, *study.network.hidden, 3))
    model.set_weights(weights)
    model.compile(
        keras_package.optimizers.get(
            {"class_name": recipe.optimizer, "config": {"learning_rate": recipe.learning_rate}}
        ),
        keras_package.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    size = len(fold.y_train) if recipe.batch_size == "full" else recipe.batch_size
    model.fit(fold.x_train, fold.y_train, batch_size=size, epochs=recipe.epochs, shuffle=False, verbose=0)
    return model.get_weights(), model.evaluate(fold.x_test, fold.y_test, verbose=0)


TRAIN = {"pytorch": plain_loop, "keras": fitted}
