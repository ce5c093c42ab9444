#!/bin/sh
# Run once by the PostgreSQL image, on an empty volume: a role for MLflow, one for the ledger, and their databases.
set -eu
psql --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres \
     --set mlflow="$MLFLOW_DB_PASSWORD" --set ledger="$BONE_AGE_DB_PASSWORD" <<'SQL'
CREATE ROLE mlflow LOGIN PASSWORD :'mlflow';
CREATE ROLE bone_age LOGIN PASSWORD :'ledger';
CREATE DATABASE mlflow OWNER mlflow;
CREATE DATABASE mlflow_auth OWNER mlflow;
CREATE DATABASE bone_age OWNER bone_age;
REVOKE CONNECT ON DATABASE mlflow, mlflow_auth, bone_age FROM PUBLIC;
SQL
