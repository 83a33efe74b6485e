"""One cell trained the plain way of each framework, which is imported only when it is used."""

from itertools import pairwise

from tests.shared.programs import inputs


def plain_module(network, sizes):
    """Return the network as anyone would write it in PyTorch, from torch's own layers."""
    import torch
    from torch import nn

    activation = {
        "relu": nn.ReLU(),
        "leaky_relu": nn.LeakyReLU(0.01),
        "elu": nn.ELU(),
        "selu": nn.SELU(),
        "gelu": nn.GELU(),
        "tanh": nn.Tanh(),
        "sigmoid": nn.Sigmoid(),
        "linear": nn.Identity(),
    }[network.activation]
    norm = {"none": nn.Identity, "batch": nn.BatchNorm1d, "layer": nn.LayerNorm}[network.normalization]

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            bias = network.normalization != "batch"
            self.hidden = nn.ModuleList([nn.Linear(a, b, bias=bias) for a, b in pairwise(sizes[:-1])])
            self.norms = nn.ModuleList([norm(b) for b in sizes[1:-1]])
            self.output = nn.Linear(sizes[-2], sizes[-1])

        def forward(self, x):
            for linear, normalize in zip(self.hidden, self.norms, strict=True):
                a = activation(normalize(linear(x)))
                x = x + a if network.residual and x.shape == a.shape else a
            return self.output(x)

    model = Net()
    linears = [part for part in model.modules() if isinstance(part, nn.Linear)]

    def load(weights):
        with torch.no_grad():
            for linear, kernel, bias in zip(linears, weights[::2], weights[1::2], strict=True):
                linear.weight.copy_(torch.from_numpy(kernel.T))
                if linear.bias is not None:
                    linear.bias.copy_(torch.from_numpy(bias))

    return model, load


def plain_loop(study, cell):
    """Train one cell the way anyone would write it; return its state dict and test loss."""
    import torch

    from tasks.backends import pytorch

    fold, order, weights, sizes = inputs(pytorch, study, cell)
    settings = study.settings("pytorch", ())
    recipe = settings.recipe
    model, load = plain_module(settings.network, sizes)
    load(weights)
    groups = [
        {"params": [p for n, p in model.named_parameters() if p.ndim == 2], "weight_decay": recipe.weight_decay},
        {"params": [p for n, p in model.named_parameters() if p.ndim == 1], "weight_decay": 0},
    ]
    optimizer = {
        "sgd": lambda: torch.optim.SGD(groups, lr=recipe.learning_rate),
        "momentum": lambda: torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=recipe.momentum),
        "adam": lambda: torch.optim.Adam(groups, lr=recipe.learning_rate),
        "adamw": lambda: torch.optim.AdamW(groups, lr=recipe.learning_rate),
    }[recipe.optimizer]()
    x, y = torch.from_numpy(fold.x_train), torch.from_numpy(fold.y_train)
    size = len(y) if recipe.batch_size == "full" else recipe.batch_size
    for epoch in torch.from_numpy(order).long():
        for rows in epoch.split(size):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
            if recipe.clip_norm:
                torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)
            if recipe.clip_value:
                torch.nn.utils.clip_grad_value_(model.parameters(), recipe.clip_value)
            optimizer.step()
    x_test, y_test = torch.from_numpy(fold.x_test), torch.from_numpy(fold.y_test)
    model.eval()
    with torch.no_grad():
        loss = torch.nn.functional.cross_entropy(model(x_test), y_test).item()
    return {name: tensor.numpy() for name, tensor in model.state_dict().items()}, loss


def plain_model(network, sizes, weight_decay):
    """Return the network as anyone would write it in Keras; the decay is an L2 penalty on kernels."""
    import keras

    activations = {
        "leaky_relu": lambda z: keras.activations.leaky_relu(z, negative_slope=0.01),
        "gelu": lambda z: keras.activations.gelu(z, approximate=False),
    }
    penalty = {"kernel_regularizer": keras.regularizers.L2(weight_decay / 2)} if weight_decay else {}
    x = h = keras.Input(sizes[:1])
    for units in sizes[1:-1]:
        z = keras.layers.Dense(units, use_bias=network.normalization != "batch", **penalty)(h)
        if network.normalization == "batch":
            z = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(z)
        if network.normalization == "layer":
            z = keras.layers.LayerNormalization(epsilon=1e-5)(z)
        a = keras.layers.Activation(activations.get(network.activation, network.activation))(z)
        h = keras.layers.Add()([h, a]) if network.residual and h.shape == a.shape else a
    model = keras.Model(x, keras.layers.Dense(sizes[-1], **penalty)(h))
    dense = [layer for layer in model.layers if isinstance(layer, keras.layers.Dense)]

    def load(weights):
        for layer, kernel, bias in zip(dense, weights[::2], weights[1::2], strict=True):
            layer.set_weights([kernel, bias][: len(layer.weights)])

    return model, load


def fitted(study, cell):
    """Train one cell with compile and fit; return its weights and test loss, without any penalty."""
    import keras as keras_package

    from tasks.backends import keras

    fold, _, weights, sizes = inputs(keras, study, cell)
    settings = study.settings("keras", ())
    recipe = settings.recipe
    coupled = recipe.weight_decay if recipe.optimizer != "adamw" else 0
    model, load = plain_model(settings.network, sizes, coupled)
    load(weights)
    options = {
        "learning_rate": recipe.learning_rate,
        "global_clipnorm": recipe.clip_norm,
        "clipvalue": recipe.clip_value,
    }
    optimizer = {
        "sgd": lambda: keras_package.optimizers.SGD(**options),
        "momentum": lambda: keras_package.optimizers.SGD(momentum=recipe.momentum, **options),
        "adam": lambda: keras_package.optimizers.Adam(**options),
        "adamw": lambda: keras_package.optimizers.AdamW(weight_decay=recipe.weight_decay, **options),
    }[recipe.optimizer]()
    if recipe.optimizer == "adamw":
        optimizer.exclude_from_weight_decay(var_list=[v for v in model.trainable_variables if len(v.shape) == 1])
    # a handful of steps takes less time than to trace one
    model.compile(optimizer, keras_package.losses.SparseCategoricalCrossentropy(from_logits=True), run_eagerly=True)
    size = len(fold.y_train) if recipe.batch_size == "full" else recipe.batch_size
    model.fit(fold.x_train, fold.y_train, batch_size=size, epochs=recipe.epochs, shuffle=False, verbose=0)
    logits = model.predict(fold.x_test, verbose=0)
    loss = keras_package.losses.SparseCategoricalCrossentropy(from_logits=True)(fold.y_test, logits)
    trainable, others = model.trainable_variables, model.non_trainable_variables
    return [variable.numpy() for variable in (*trainable, *others)], float(loss)


TRAIN = {"pytorch": plain_loop, "keras": fitted}
