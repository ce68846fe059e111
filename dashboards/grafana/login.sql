-- Grafana's login to PostgreSQL, which may do what rivulet_boards may and nothing else. Run it after
-- `rivulet migrate`, as who ran that; again to change the password:
--   GRAFANA_PASSWORD=… psql "$DATABASE_URL" -v ON_ERROR_STOP=1 -v login=grafana -f login.sql
\getenv password GRAFANA_PASSWORD
SELECT format('CREATE ROLE %I', :'login')
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'login')
\gexec
ALTER ROLE :"login" LOGIN PASSWORD :'password';
GRANT rivulet_boards TO :"login";
