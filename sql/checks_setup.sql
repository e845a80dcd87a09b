-- Checks of chatbot_doctor() on the set-up: database, roles, triggers and keys. Each returns rows in the same form as
-- chatbot_doctor().

CREATE FUNCTION chatbot_sync.check_database() RETURNS TABLE (check_name text, status text, detail text, hint text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    db_name name := current_database();
    db_id oid := (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database());
    tables regclass[] := '{chatbot_sync.source, chatbot_sync.embedding, chatbot_sync.job, chatbot_sync.sync_log}';
    said record;
    is_said boolean := false;
BEGIN
    IF NOT chatbot_sync.is_enabled() THEN
        RETURN QUERY SELECT 'enabled', 'warning',
            format('chatbot_sync.enabled is off: nothing is embedded, no provider is asked, and %s sources wait',
                (SELECT count(*) FROM chatbot_sync.source AS s WHERE s.status = 'pending' AND s.enabled)),
            format('Where it is meant to be on: ALTER DATABASE %I RESET chatbot_sync.enabled; then connect again, and CALL chatbot_process_queue();', db_name);
    END IF;
    -- With session_replication_role = replica the triggers of host tables do not fire.
    FOR said IN
        SELECT r.rolname, s.setdatabase FROM pg_db_role_setting AS s LEFT JOIN pg_roles AS r ON r.oid = s.setrole
        WHERE s.setdatabase IN (0, db_id) AND 'session_replication_role=replica' = ANY (s.setconfig)
    LOOP
        is_said := true;
        RETURN QUERY SELECT 'replication role', 'error',
            format('session_replication_role is replica in sessions of %s: triggers of host tables do not fire',
                COALESCE(format('role %s', said.rolname), 'this database')),
            format('%s RESET session_replication_role; SELECT chatbot_repair(); CALL chatbot_sync_all();',
                CASE WHEN said.rolname IS NULL THEN format('ALTER DATABASE %I', db_name)
                    WHEN said.setdatabase = 0 THEN format('ALTER ROLE %I', said.rolname)
                    ELSE format('ALTER ROLE %I IN DATABASE %I', said.rolname, db_name) END);
    END LOOP;
    IF NOT is_said AND current_setting('session_replication_role') = 'replica' THEN
        RETURN QUERY SELECT 'replication role', 'error',
            'session_replication_role is replica in this session: triggers of host tables do not fire',
            'SET session_replication_role = DEFAULT; SELECT chatbot_repair(); CALL chatbot_sync_all();';
    END IF;
    -- The statistics show which chatbots are large and which terms are frequent; without them searches use no index.
    FOR said IN
        SELECT t.relid::regclass AS relation, t.n_live_tup FROM pg_stat_user_tables AS t JOIN pg_class AS c ON c.oid = t.relid
        WHERE t.relid = ANY (tables[:2]::oid[]) AND t.n_live_tup > 10000 AND t.last_analyze IS NULL AND t.last_autoanalyze IS NULL
            AND (current_setting('autovacuum') = 'off' OR current_setting('track_counts') = 'off'
                OR c.reloptions && '{autovacuum_enabled=false, autovacuum_enabled=off}')
    LOOP
        RETURN QUERY SELECT 'statistics', 'warning',
            format('%s has %s rows, was never analyzed, and autovacuum is off for it: searches of large chatbots use no index', said.relation, said.n_live_tup),
            format('ANALYZE %s; and switch autovacuum on: ALTER SYSTEM RESET autovacuum; ALTER TABLE %s RESET (autovacuum_enabled); SELECT pg_reload_conf();',
                said.relation, said.relation);
    END LOOP;
    -- A policy on one table has no effect if another table with the same text has none.
    SELECT string_agg(c.oid::regclass::text, ', ' ORDER BY c.oid) FILTER (WHERE c.relrowsecurity) AS secured,
        string_agg(c.oid::regclass::text, ', ' ORDER BY c.oid) FILTER (WHERE NOT c.relrowsecurity) AS open
    INTO said FROM pg_class AS c WHERE c.oid = ANY (tables::oid[]);
    IF said.secured IS NOT NULL THEN
        IF said.open IS NOT NULL THEN
            RETURN QUERY SELECT 'row security', 'error',
                format('it is on for %s, and not for %s: a role sees there what its policies hide elsewhere', said.secured, said.open),
                (SELECT string_agg(format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY;', t), ' ') FROM unnest(string_to_array(said.open, ', ')) AS t)
                    || ' and the same policies on each.';
        END IF;
        IF chatbot_sync.is_distributed() THEN
            RETURN QUERY SELECT 'row security', 'error', 'where Citus has the tables searches run as the owner of the extension: policies hide nothing',
                'SELECT chatbot_undistribute(); or let an application choose the chatbots, and REVOKE the level of roles that may not see all.';
        ELSIF current_setting('server_version_num')::int < 150000 THEN
            RETURN QUERY SELECT 'row security', 'warning', 'before Postgres 15 the views source_status, progress and stats show all chatbots to roles of the level read',
                'REVOKE SELECT ON chatbot_sync.source_status, chatbot_sync.progress, chatbot_sync.stats FROM the roles that may not see all;';
        END IF;
    END IF;
END
$$;

-- Roles with a level that lack the privilege to use a schema of our functions, of our tables or of pgvector's
-- operators.
CREATE FUNCTION chatbot_sync.check_roles() RETURNS TABLE (check_name text, status text, detail text, hint text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'roles', 'error', format('role %s may not use schema %s, where %s are', r.rolname, n.nspname, n.has),
        format('GRANT USAGE ON SCHEMA %I TO %I;', n.nspname, r.rolname)
    FROM chatbot_sync.functions_of_level('read') AS f
    JOIN pg_proc AS p ON p.oid = f AND p.proname = 'chatbot_search'
    CROSS JOIN LATERAL (SELECT DISTINCT a.grantee FROM aclexplode(p.proacl) AS a WHERE a.grantee NOT IN (0, p.proowner)) AS g
    JOIN pg_roles AS r ON r.oid = g.grantee
    CROSS JOIN LATERAL (
        SELECT s.oid, s.nspname, string_agg(x.has, ' and ') AS has
        FROM (SELECT e.extnamespace AS id, CASE e.extname WHEN 'vector' THEN 'pgvector''s type and operators' ELSE 'the functions of chatbot_sync' END AS has
            FROM pg_extension AS e WHERE e.extname IN ('vector', 'chatbot_sync')
            UNION ALL SELECT 'chatbot_sync'::regnamespace, 'the tables of chatbot_sync') AS x
        JOIN pg_namespace AS s ON s.oid = x.id GROUP BY s.oid, s.nspname
    ) AS n
    WHERE NOT has_schema_privilege(r.oid, n.oid, 'USAGE')
$$;

-- Keys that are stored in settings, where other users can read them, or in configuration files.
CREATE FUNCTION chatbot_sync.check_keys() RETURNS TABLE (check_name text, status text, detail text, hint text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    said record;
BEGIN
    IF EXISTS (SELECT FROM pg_db_role_setting AS s, unnest(s.setconfig) AS c WHERE c LIKE 'chatbot\_sync.%\_api\_key=%'
            -- Settings of another database are reported by chatbot_doctor() there.
            AND s.setdatabase IN (0, (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database()))) THEN
        RETURN QUERY SELECT 'keys', 'warning', 'a key is a setting of a role or database, which everybody may read',
            'Put it into a file: ALTER SYSTEM SET chatbot_sync.openai_api_key_file = ''/path/to/file'';';
    END IF;
    FOR said IN
        SELECT f.name, regexp_replace(f.sourcefile, '^.*/', '') AS file FROM pg_file_settings AS f
        WHERE f.name ~ '^chatbot_sync\..*_api_key$' AND f.setting <> '' GROUP BY 1, 2
    LOOP
        RETURN QUERY SELECT 'keys', 'warning',
            format('%s is in %s: Postgres writes a setting that changes to its log when it reads its files again, the key with it', said.name, said.file),
            format('Put the key into a file of its own: ALTER SYSTEM SET %s_file = ''/path/to/file''; %s SELECT pg_reload_conf(); and let the provider make another key.',
                said.name, CASE said.file WHEN 'postgresql.auto.conf' THEN format('ALTER SYSTEM RESET %s;', said.name)
                    ELSE format('take %s out of %s;', said.name, said.file) END);
    END LOOP;
EXCEPTION WHEN insufficient_privilege THEN
    -- The owner of the extension is not a superuser any more, so pg_file_settings cannot be read.
    RETURN;
END
$$;

CREATE FUNCTION chatbot_sync.check_triggers() RETURNS TABLE (check_name text, status text, detail text, hint text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    t record;
BEGIN
    -- Our triggers, and those of foreign keys between our tables. A trigger with tgenabled R fires only in sessions of
    -- logical replication.
    FOR t IN
        SELECT x.tgrelid::regclass AS relation, CASE WHEN x.tgisinternal THEN 'ALL' ELSE quote_ident(x.tgname) END AS name,
            min(x.tgname) AS called, bool_or(x.tgenabled = 'R') AS replica
        FROM pg_trigger AS x JOIN pg_proc AS p ON p.oid = x.tgfoid JOIN pg_class AS c ON c.oid = x.tgrelid
        WHERE x.tgenabled IN ('D', 'R') AND (p.pronamespace = 'chatbot_sync'::regnamespace
            OR x.tgisinternal AND c.relnamespace = 'chatbot_sync'::regnamespace)
        GROUP BY 1, 2 ORDER BY 1, 2
    LOOP
        RETURN QUERY SELECT 'triggers', 'error',
            format('trigger %s of %s is %s: its changes are not seen', t.called, t.relation, CASE WHEN t.replica THEN 'enabled for replicas only' ELSE 'disabled' END),
            format('ALTER TABLE %s ENABLE TRIGGER %s; SELECT chatbot_repair(); CALL chatbot_sync_all();', t.relation, t.name);
    END LOOP;
    -- A host table and each of its partitions has four triggers, and one more where status columns are written.
    FOR t IN
        SELECT h.relation AS root, r.relation, w.wanted, count(x.oid) AS found
        FROM chatbot_sync.host_table AS h
        -- pg_partition_tree() is not used here, since it would wait for a lock on the table.
        CROSS JOIN LATERAL (WITH RECURSIVE tree AS (
            SELECT h.relation::oid AS oid UNION SELECT i.inhrelid FROM pg_inherits AS i JOIN tree ON tree.oid = i.inhparent
        ) SELECT tree.oid::regclass AS relation FROM tree) AS r
        JOIN pg_class AS c ON c.oid = r.relation
        CROSS JOIN LATERAL (SELECT 4 + (c.relkind = 'r' AND num_nonnulls(h.status_column, h.processed_column, h.error_column) > 0)::int AS wanted) AS w
        LEFT JOIN pg_trigger AS x ON x.tgrelid = r.relation AND NOT x.tgisinternal
            AND x.tgname ~ format('^(zz_)?chatbot_sync_%s_[a-z]+$', h.host)
        -- Partitions and children without any trigger are reported by check_hosts(), and repaired by chatbot_repair().
        GROUP BY h.relation, h.host, r.relation, w.wanted
        HAVING count(x.oid) < w.wanted AND (count(x.oid) > 0 OR r.relation = h.relation)
    LOOP
        RETURN QUERY SELECT 'triggers', 'error', format('%s has %s of its %s triggers', t.relation, t.found, t.wanted),
            format('SELECT chatbot_detach(%L); and chatbot_attach() again.', t.root::text);
    END LOOP;
    -- Triggers on partitions that are left over from a table that is not attached any more.
    FOR t IN
        SELECT x.tgrelid::regclass AS relation, string_agg(format('DROP TRIGGER %I ON %s;', x.tgname, x.tgrelid::regclass), ' ' ORDER BY x.tgname) AS drops
        FROM pg_trigger AS x JOIN pg_proc AS p ON p.oid = x.tgfoid AND p.pronamespace = 'chatbot_sync'::regnamespace
        WHERE x.tgname ~ '^(zz_)?chatbot_sync_[0-9]+_[a-z]+$' AND NOT EXISTS (SELECT FROM chatbot_sync.host_table AS h
            WHERE h.host = substring(x.tgname FROM '[0-9]+')::int)
        GROUP BY x.tgrelid
    LOOP
        RETURN QUERY SELECT 'triggers', 'error', format('%s has triggers of a table that is not attached any more', t.relation),
            t.drops || ' and chatbot_attach() again.';
    END LOOP;
    FOR t IN
        SELECT n.name, e.evtname IS NULL AS missing FROM unnest('{chatbot_sync_ddl, chatbot_sync_drop, chatbot_sync_rewrite, chatbot_sync_text_search, chatbot_sync_update}'::name[]) AS n (name)
        LEFT JOIN pg_event_trigger AS e ON e.evtname = n.name
        WHERE e.evtname IS NULL OR e.evtenabled NOT IN ('O', 'A')
    LOOP
        RETURN QUERY SELECT 'event triggers', 'error',
            format('event trigger %s is %s: %s', t.name, CASE WHEN t.missing THEN 'gone' ELSE 'disabled' END,
                CASE t.name WHEN 'chatbot_sync_update' THEN 'roles keep no level in an update' ELSE 'changes of host tables are not followed' END),
            CASE WHEN t.missing THEN format('Make it as the script of the extension does, then ALTER EXTENSION chatbot_sync ADD EVENT TRIGGER %I;', t.name)
                ELSE format('ALTER EVENT TRIGGER %I ENABLE;', t.name) END;
    END LOOP;
    -- This setting exists since Postgres 17.
    IF current_setting('event_triggers', true) = 'off' THEN
        RETURN QUERY SELECT 'event triggers', 'error', 'event_triggers is off: changes of host tables are not followed',
            'ALTER SYSTEM RESET event_triggers; SELECT pg_reload_conf();';
    END IF;
END
$$;
