-- PostgreSQL's image runs this once, when its volume is empty.
CREATE DATABASE initbench_prefect;
CREATE DATABASE initbench_mlflow;
