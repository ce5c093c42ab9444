#!/bin/sh
# Copies what compose.yaml's services keep into a new folder: docker/backup.sh FOLDER. They go on running.
#
# What refers comes before what is referred to: the ledger names versions in MLflow, MLflow names artifacts. What is added
# meanwhile is then more than was asked for, never less. Take it while no training runs, or that one's records are halves.
set -eu
cd "$(dirname "$0")/.."
COMPOSE=${COMPOSE:-docker compose -f docker/compose.yaml}
export COMPOSE_PROFILES=tracking,serve,schedule
folder=${1:?usage: docker/backup.sh FOLDER}
if [ -e "$folder" ]; then echo "error: $folder is there already; name a new folder" >&2; exit 2; fi
part=$folder.part
umask 077
rm -rf "$part"
mkdir -p "$part"

within() { service=$1; shift; $COMPOSE exec -T "$service" "$@"; }

for database in bone_age mlflow mlflow_auth; do
    within postgres sh -c 'pg_dump --username "$POSTGRES_USER" --format custom "$1"' sh "$database" >"$part/$database.pgdump"
done
within zenml-database sh -c \
    'MYSQL_PWD="$MYSQL_ROOT_PASSWORD" mysqldump --user=root --single-transaction --routines --no-tablespaces zenml' \
    >"$part/zenml.sql"
# MLflow's artifacts; and the scheduler's home, where ZenML keeps what steps hand over, without what can be made anew
within mlflow sh -c 'mkdir -p "$BONE_AGE_HOME/artifacts" && tar -C "$BONE_AGE_HOME" -cf - artifacts' >"$part/mlflow.tar"
if [ -n "$($COMPOSE ps --quiet scheduler)" ]; then
    within scheduler sh -c 'tar -C "$BONE_AGE_HOME" --exclude ./tmp --exclude ./features --exclude ./home/.cache -cf - .' \
        >"$part/scheduler.tar"
fi
(cd "$part" && sha256sum -- * >SHA256SUMS)
mv "$part" "$folder"
echo "backup: $folder, $(du -sh "$folder" | cut -f 1); docker/.env is not in it and is needed as well"
