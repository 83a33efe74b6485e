-- Run once by PostgreSQL's image, when its volume is empty.
CREATE DATABASE initbench_prefect;
CREATE DATABASE initbench_mlflow;
