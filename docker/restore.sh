#!/bin/sh
# Puts back what docker/backup.sh copied, in place of what is there: docker/restore.sh FOLDER
set -eu
cd "$(dirname "$0")/.."
COMPOSE=${COMPOSE:-docker compose -f docker/compose.yaml}
export COMPOSE_PROFILES=tracking,serve,schedule
folder=${1:?usage: docker/restore.sh FOLDER}
if ! (cd "$folder" && sha256sum --quiet --strict --check SHA256SUMS); then
    echo "error: $folder is no whole backup; nothing was changed" >&2
    exit 2
fi

within() { service=$1; shift; $COMPOSE exec -T "$service" "$@"; }
in_volume_of() { service=$1; shift; $COMPOSE run --rm --no-deps -T "$service" "$@"; }

$COMPOSE stop serve scheduler mlflow zenml
$COMPOSE up --detach --wait postgres zenml-database
for database in bone_age mlflow mlflow_auth; do
    within postgres sh -c \
        'pg_restore --username "$POSTGRES_USER" --clean --if-exists --single-transaction --exit-on-error --dbname "$1"' \
        sh "$database" <"$folder/$database.pgdump"
done
within zenml-database sh -c \
    'MYSQL_PWD="$MYSQL_ROOT_PASSWORD" mysql --user=root --execute="DROP DATABASE IF EXISTS zenml; CREATE DATABASE zenml"'
within zenml-database sh -c 'MYSQL_PWD="$MYSQL_ROOT_PASSWORD" mysql --user=root zenml' <"$folder/zenml.sql"
in_volume_of mlflow sh -c 'rm -rf "$BONE_AGE_HOME/artifacts" && tar -C "$BONE_AGE_HOME" -xf -' <"$folder/mlflow.tar"
if [ -f "$folder/scheduler.tar" ]; then
    in_volume_of scheduler sh -c 'tar -C "$BONE_AGE_HOME" -xf -' <"$folder/scheduler.tar"
fi
echo "restored from $folder; start the services again, then: bone-age audit verify"
