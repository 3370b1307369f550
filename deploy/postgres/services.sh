#!/bin/bash
# A database and a user for each service; no service can read another's database.
# Runs by itself when the data folder is new. Run it again after the passwords have changed:
#   docker compose exec postgres /docker-entrypoint-initdb.d/services.sh
set -euo pipefail

ask() { psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" "$@"; }

ask --dbname postgres <<'SQL'
REVOKE CONNECT, TEMPORARY ON DATABASE postgres, template1 FROM PUBLIC;
SQL

for service in auth posts; do
  # psql reads the password itself: other users could see arguments.
  PASSWORD_FILE="/run/hubbub/${service}_password" ask --dbname postgres --set service="$service" <<'SQL'
\set password `cat "$PASSWORD_FILE"`
SELECT format('CREATE ROLE %I LOGIN', :'service')
  WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'service') \gexec
ALTER ROLE :"service" PASSWORD :'password';
SELECT format('CREATE DATABASE %I OWNER %I', :'service', :'service')
  WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'service') \gexec
REVOKE ALL ON DATABASE :"service" FROM PUBLIC;
SQL
done
