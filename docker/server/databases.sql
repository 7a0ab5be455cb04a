-- Beside the one for MLflow's records, which POSTGRES_DB names: its users, and who releases (share.database).
CREATE DATABASE mlflow_auth;
CREATE DATABASE plantops;
