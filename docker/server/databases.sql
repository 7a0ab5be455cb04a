-- Beside the one for MLflow's records, which POSTGRES_DB names: its users, and who releases (share.database).
CREATE DATABASE mlflow_auth;
-- Nobody gets in as this user until it has a password: \password releases
CREATE ROLE releases LOGIN;
CREATE DATABASE plantops OWNER releases;
