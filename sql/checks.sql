-- Checks of chatbot_doctor(). Each returns rows in the same form as chatbot_doctor().

CREATE FUNCTION chatbot_sync.check_workers() RETURNS TABLE (check_name text, status text, detail text, hint text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    waits boolean := EXISTS (SELECT FROM chatbot_sync.host_table AS h WHERE h.mode = 'async') OR EXISTS (SELECT FROM chatbot_sync.job);
    listed text := current_setting('chatbot_sync.databases', true);
    -- Workers connect as the owner of the database, unless that role may not log in.
    owner pg_roles := (SELECT r FROM pg_database AS d JOIN pg_roles AS r ON r.oid = d.datdba
        WHERE d.datname = current_database() AND r.rolcanlogin);
BEGIN
    IF pg_is_in_recovery() THEN
        RETURN QUERY SELECT 'workers', 'ok', 'a standby: it answers searches, and workers start when it is promoted', NULL::text;
    ELSIF NOT chatbot_sync.is_preloaded() THEN
        RETURN QUERY SELECT 'workers', CASE WHEN waits THEN 'warning' ELSE 'ok' END,
            'the library is not preloaded: there are no workers, and syncs whose transaction rolls back are not counted',
            'Preload it (ALTER SYSTEM SET shared_preload_libraries = ''chatbot_sync''; and restart), or CALL chatbot_process_queue(); again and again.';
    ELSIF NOT EXISTS (SELECT FROM pg_stat_activity AS a WHERE a.backend_type = 'chatbot_sync launcher') THEN
        RETURN QUERY SELECT 'workers', 'error', format('the launcher does not run: all of max_worker_processes (%s) were in use when the server started',
            current_setting('max_worker_processes')),
            format('ALTER SYSTEM SET max_worker_processes = %s; and restart the server.', current_setting('max_worker_processes')::int + 8);
    ELSIF chatbot_sync.lacks_worker_process() THEN
        RETURN QUERY SELECT 'workers', 'error', format('no worker can be started: all of max_worker_processes (%s) are in use', current_setting('max_worker_processes')),
            format('ALTER SYSTEM SET max_worker_processes = %s; and restart the server. Until then: CALL chatbot_process_queue();',
                current_setting('max_worker_processes')::int + 8);
    ELSIF waits AND listed <> '' AND current_database() <> ALL (regexp_split_to_array(trim(listed), '\s*,\s*')) THEN
        RETURN QUERY SELECT 'workers', 'error', 'this database has no workers: chatbot_sync.databases does not name it',
            format('ALTER SYSTEM SET chatbot_sync.databases = %L; SELECT pg_reload_conf();', listed || ', ' || current_database());
    ELSIF waits AND NOT has_database_privilege(owner.oid, current_database(), 'CONNECT') THEN
        RETURN QUERY SELECT 'workers', 'error',
            format('workers end at their start: they connect as %s, the owner of the database, who may not connect to it', owner.rolname),
            format('GRANT CONNECT ON DATABASE %I TO %I; CALL chatbot_process_queue();', current_database(), owner.rolname);
    ELSE
        RETURN QUERY SELECT 'workers', 'ok', format('preloaded; %s at work', (SELECT count(*) FROM pg_stat_activity AS a
            WHERE a.backend_type = 'chatbot_sync worker')), NULL::text;
    END IF;
END
$$;

-- Sources that are synced and that searches do not find, and slow syncs.
CREATE FUNCTION chatbot_sync.check_sources() RETURNS TABLE (check_name text, status text, detail text, hint text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    active int := COALESCE((SELECT m.id FROM chatbot_sync.model AS m WHERE m.active), 0);
    found bigint;
    blank bigint;
    disabled bigint;
    said text;
    l record;
    kept interval := current_setting('chatbot_sync.log_retention')::interval;
BEGIN
    SELECT count(*) FILTER (WHERE s.enabled AND s.status = 'synced' AND s.chunk_count = 0), count(*) FILTER (WHERE NOT s.enabled)
    INTO blank, disabled FROM chatbot_sync.source AS s;
    RETURN QUERY SELECT 'sources not found', 'ok', format('%s have no text, %s are not enabled: no search finds them', blank, disabled),
        CASE WHEN blank + disabled > 0 THEN 'SELECT * FROM chatbot_sync.source WHERE status = ''synced'' AND chunk_count = 0 OR NOT enabled;' END;
    -- Sources that were made with other settings
    SELECT o.* INTO l FROM chatbot_sync.count_outdated_sources() AS o;
    IF l.of_tables + l.words_by_hand > 0 THEN
        RETURN QUERY SELECT 'outdated sources', 'warning',
            format('%s sources were cut, or their words read, by an older version or with other settings than those of this session', l.of_tables + l.words_by_hand),
            'CALL chatbot_sync_all(refresh => true);';
    END IF;
    IF l.cut_by_hand > 0 THEN
        RETURN QUERY SELECT 'outdated sources', 'warning',
            format('%s sources that no table has were cut with other settings than those of this session', l.cut_by_hand),
            format('Give chatbot_embed_source() their text again. Which: SELECT * FROM chatbot_sync.source WHERE host IS NULL AND chunk_count > 0 AND chunking[2:4] <> %L;',
                ARRAY[current_setting('chatbot_sync.chunk_size'), current_setting('chatbot_sync.chunk_overlap'), current_setting('chatbot_sync.max_chunks')]);
    END IF;
    said := COALESCE(nullif(current_setting('chatbot_sync.text_search_config'), ''), 'auto');
    IF said <> 'auto' AND NOT EXISTS (SELECT FROM pg_ts_config AS c WHERE c.cfgname = said) THEN
        RETURN QUERY SELECT 'text search', 'error',
            format('text search configuration "%s", which chatbot_sync.text_search_config names, does not exist: words are read with simple', said),
            format('ALTER DATABASE %I SET chatbot_sync.text_search_config = ''auto''; and in a new session CALL chatbot_sync_all(refresh => true);', current_database());
    END IF;
    -- Languages that a built-in model does not know. Names of text search configurations say nothing here.
    SELECT sum(g.sources) AS sources, sum(g.sources) FILTER (WHERE g.lang <> ALL (m.knows)) AS unknown,
        string_agg(g.lang, ', ' ORDER BY g.sources DESC, g.lang) FILTER (WHERE g.lang <> ALL (m.knows)) AS langs,
        sum(g.sources) FILTER (WHERE g.lang <> ALL (m.knows) AND g.lang = ANY (chatbot_sync.model_languages('local', 'multilingual-static-256'))) AS helped,
        min(m.model) AS model
    INTO l
    FROM (SELECT d.model, chatbot_sync.model_languages(d.provider, d.model) AS knows FROM chatbot_sync.model AS d WHERE d.active) AS m,
        (SELECT lower(split_part(translate(s.lang, '-@.', '___'), '_', 1)) AS lang, count(*) AS sources FROM chatbot_sync.source AS s
        WHERE s.chunk_count > 0 GROUP BY 1) AS g
    WHERE m.knows IS NOT NULL AND length(g.lang) = 2;
    IF l.unknown * 2 > l.sources THEN
        RETURN QUERY SELECT 'languages', 'warning',
            format('%s of %s sources are in languages that the model %s does not know (%s): they are found by their words alone', l.unknown, l.sources, l.model, l.langs),
            CASE WHEN l.helped * 2 > l.unknown THEN 'SELECT chatbot_set_model(''local'', ''multilingual-static-256''); and CALL chatbot_reembed();'
            ELSE 'No built-in model knows them. With one of a provider''s: SELECT chatbot_set_model(''ollama'', ''bge-m3''); and CALL chatbot_reembed();' END;
    END IF;
    -- A source is complete for the active model if it says so itself, or if it has chunks of that model.
    SELECT count(*), min(format('%s %s of chatbot %s', s.source_type, s.source_id, s.chatbot_id)) INTO found, said
    FROM chatbot_sync.source AS s
    WHERE s.status = 'synced' AND s.chunk_count > 0 AND s.model_id IS DISTINCT FROM active AND s.next_model_id IS DISTINCT FROM active
        AND NOT EXISTS (SELECT FROM chatbot_sync.embedding AS e WHERE e.model_id = active
            AND (e.chatbot_id, e.source_type, e.source_id) = (s.chatbot_id, s.source_type, s.source_id));
    IF found > 0 THEN
        RETURN QUERY SELECT 'other models', 'error', format('%s sources have vectors of a model that does not answer, as %s: no search finds them', found, said),
            'SELECT chatbot_repair(); and CALL chatbot_sync_all();';
    END IF;
    SELECT count(*) AS syncs, count(*) FILTER (WHERE s.error_code = '58030') AS late,
        percentile_cont(0.95) WITHIN GROUP (ORDER BY s.total_ms) AS whole,
        percentile_cont(0.95) WITHIN GROUP (ORDER BY s.chunking_ms) AS chunking,
        percentile_cont(0.95) WITHIN GROUP (ORDER BY s.embedding_ms) AS embedding,
        percentile_cont(0.95) WITHIN GROUP (ORDER BY s.storing_ms) AS storing
    INTO l FROM chatbot_sync.sync_log AS s WHERE s.logged_at > statement_timestamp() - interval '1 hour';
    RETURN QUERY SELECT 'speed', CASE WHEN l.late > 0 OR l.whole > 10000 THEN 'warning' ELSE 'ok' END,
        CASE WHEN l.syncs = 0 THEN 'no sync in the last hour' ELSE format(
            '95 of 100 syncs of the last hour took less than %s ms (chunking %s, embedding %s, storing %s); %s of %s did not end within chatbot_sync.sync_timeout',
            round(l.whole), round(l.chunking), round(l.embedding), round(l.storing), l.late, l.syncs) END,
        CASE WHEN l.late > 0 OR l.whole > 10000 THEN CASE
            WHEN l.late > 0 OR l.embedding >= l.storing THEN 'The provider is slow: attach with mode => ''async'', so that nobody waits, or choose another with chatbot_set_model().'
            ELSE 'Storing is slow: VACUUM ANALYZE chatbot_sync.embedding; and is the disk slow, or somebody in the way? SELECT * FROM pg_stat_activity WHERE wait_event_type = ''Lock'';'
        END END;
    IF EXISTS (SELECT FROM pg_stat_user_tables AS t WHERE t.relid = 'chatbot_sync.embedding'::regclass
        AND t.n_dead_tup > 10000 AND t.n_dead_tup > t.n_live_tup) THEN
        RETURN QUERY SELECT 'bloat', 'warning', 'most rows of chatbot_sync.embedding are dead: searches read them all the same',
            'VACUUM ANALYZE chatbot_sync.embedding; and is autovacuum on?';
    END IF;
    IF kept >= interval '0' AND EXISTS (SELECT FROM chatbot_sync.sync_log AS s WHERE s.logged_at < statement_timestamp() - kept - interval '1 day') THEN
        RETURN QUERY SELECT 'log', 'warning', 'chatbot_sync.sync_log has rows that are older than chatbot_sync.log_retention: nobody takes them away',
            'CALL chatbot_process_queue(); each day, from pg_cron or Odoo''s cron, where there are no workers.';
    END IF;
END
$$;

-- Host tables without their sources and sources without their table, as after a restore; and chatbots that were deleted
-- unnoticed.
CREATE FUNCTION chatbot_sync.check_hosts() RETURNS TABLE (check_name text, status text, detail text, hint text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '100ms'
AS $$
DECLARE
    h record;
    found bigint;
    said bigint;
    lost boolean;
    -- Two queries instead of a join: sources may be on other nodes, the catalogs are local.
    attached int[] := ARRAY(SELECT t.host FROM chatbot_sync.host_table AS t);
    known int[] := ARRAY(SELECT s.host FROM chatbot_sync.source AS s WHERE s.host IS NOT NULL GROUP BY s.host);
BEGIN
    FOR h IN
        SELECT s.host, count(*) AS sources, min(s.source_type) AS source_type FROM chatbot_sync.source AS s
        WHERE s.host IS NOT NULL AND s.host <> ALL (attached) GROUP BY s.host
    LOOP
        RETURN QUERY SELECT 'detached sources', 'error',
            format('the table of %s sources (%s, host %s) has no triggers of ours: restored without the extension, or they were dropped', h.sources, h.source_type, h.host),
            format('SELECT chatbot_attach(''the table'', %L); or, if there is none any more, SELECT chatbot_repair();', h.source_type);
    END LOOP;
    FOR h IN
        SELECT t.relation, COALESCE(format('%I IS NOT NULL', t.chatbot_column), 'true') AS has_chatbot FROM chatbot_sync.host_table AS t
        WHERE t.host <> ALL (known)
            AND NOT EXISTS (SELECT FROM chatbot_sync.job AS j WHERE j.host = t.host)
    LOOP
        BEGIN
            EXECUTE format('SELECT EXISTS (SELECT FROM %s WHERE %s)', h.relation, h.has_chatbot) INTO lost;
        EXCEPTION WHEN lock_not_available THEN
            -- check_queue() reports the session that holds the lock.
            lost := false;
        END;
        IF lost THEN
            RETURN QUERY SELECT 'lost sources', 'error', format('%s has rows, and none of them is a source: restored without the tables of the extension', h.relation),
                'CALL chatbot_sync_all();';
        END IF;
    END LOOP;
    -- Partitions and children that an older version did not know, or whose triggers were dropped.
    FOR h IN
        WITH RECURSIVE below AS (
            SELECT t.relation, t.host, t.relation::oid AS part FROM chatbot_sync.host_table AS t
            UNION
            SELECT b.relation, b.host, i.inhrelid FROM below AS b JOIN pg_inherits AS i ON i.inhparent = b.part AND NOT i.inhdetachpending
        )
        SELECT b.relation, b.part::regclass AS part FROM below AS b
        WHERE b.part <> b.relation AND NOT EXISTS (SELECT FROM pg_trigger AS g WHERE g.tgrelid = b.part
            AND g.tgname LIKE 'chatbot\_sync\_' || b.host || '\_%')
    LOOP
        RETURN QUERY SELECT 'triggers', 'error', format('%s, whose rows are rows of %s, has none of its triggers', h.part, h.relation),
            'SELECT chatbot_repair();';
    END LOOP;
    -- Tables of chatbots, with integer keys only: the owner of another type could have defined its operators, which
    -- would run here.
    IF NOT EXISTS (SELECT FROM pg_trigger AS t WHERE t.tgfoid = 'chatbot_sync.chatbots_deleted'::regproc) THEN
        RETURN QUERY SELECT 'deleted chatbots', 'ok', 'no table of chatbots is attached: what is deleted there is not heard of',
            'SELECT chatbot_attach_chatbots(''the table''); or SELECT chatbot_cleanup(id); for each chatbot that goes.';
    END IF;
    FOR h IN
        SELECT t.tgrelid::regclass AS relation, a.attname, count(*) AS triggers
        FROM pg_trigger AS t
        CROSS JOIN LATERAL (SELECT (convert_from(substring(t.tgargs, 1, length(t.tgargs) - 1), getdatabaseencoding()))::jsonb AS options) AS g
        JOIN pg_attribute AS a ON a.attrelid = t.tgrelid AND a.attname = g.options ->> 0 AND NOT a.attisdropped
        WHERE t.tgfoid = 'chatbot_sync.chatbots_deleted'::regproc AND NOT t.tgisinternal AND t.tgnargs = 1
            AND a.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype)
        GROUP BY t.tgrelid, a.attname
    LOOP
        IF h.triggers < 2 THEN
            RETURN QUERY SELECT 'triggers', 'error', format('%s, a table of chatbots, has %s of its 2 triggers', h.relation, h.triggers),
                format('SELECT chatbot_detach(%L); SELECT chatbot_attach_chatbots(%L, %L);', h.relation, h.relation, h.attname);
        END IF;
        EXECUTE format('SELECT count(*), min(s.chatbot_id) FROM (SELECT chatbot_id FROM chatbot_sync.source UNION SELECT chatbot_id FROM chatbot_sync.session) AS s
            LEFT JOIN (SELECT c.%2$I AS id FROM %1$s AS c) AS c ON c.id = s.chatbot_id WHERE c.id IS NULL', h.relation, h.attname) INTO found, said;
        IF found > 0 THEN
            RETURN QUERY SELECT 'deleted chatbots', 'warning', format('%s chatbots that %s does not have still have sources or sessions', found, h.relation),
                format('SELECT chatbot_cleanup(%s); and so for each.', said);
        END IF;
    END LOOP;
END
$$;

-- Whether each role that makes backups, the owner of the database or of a host table, can read every table of the
-- extension. pg_dump refuses to read a table with row-level security for a role that is subject to it, whatever the
-- policies are.
CREATE FUNCTION chatbot_sync.check_backup() RETURNS TABLE (check_name text, status text, detail text, hint text)
LANGUAGE sql SET search_path = pg_catalog, pg_temp
AS $$
    WITH owner AS (
        SELECT d.datdba AS role FROM pg_database AS d WHERE d.datname = current_database()
        UNION
        SELECT c.relowner FROM chatbot_sync.host_table AS h JOIN pg_class AS c ON c.oid = h.relation
    ), unread AS (
        SELECT o.role::regrole AS role, min(c.oid::regclass::text) AS relation
        FROM owner AS o JOIN pg_class AS c ON c.relnamespace = 'chatbot_sync'::regnamespace AND c.relkind IN ('r', 'S')
        WHERE NOT has_schema_privilege(o.role, 'chatbot_sync', 'USAGE') OR NOT CASE c.relkind
            WHEN 'S' THEN has_sequence_privilege(o.role, c.oid, 'SELECT') ELSE has_table_privilege(o.role, c.oid, 'SELECT') END
        GROUP BY o.role
    ), secured AS (
        SELECT r.rolname, min(c.oid::regclass::text) AS relation
        FROM owner AS o JOIN pg_roles AS r ON r.oid = o.role AND NOT r.rolsuper AND NOT r.rolbypassrls
        JOIN pg_class AS c ON c.relnamespace = 'chatbot_sync'::regnamespace AND c.relrowsecurity
        WHERE NOT pg_has_role(r.oid, c.relowner, 'USAGE') GROUP BY r.rolname
    )
    SELECT 'backup', 'warning', format('a pg_dump that %s makes fails: it may not read %s', u.role, u.relation),
        format('SELECT chatbot_grant(%L);', r.rolname)
    FROM unread AS u JOIN pg_roles AS r ON r.oid = u.role
    UNION ALL
    SELECT 'backup', 'warning', format('a pg_dump that %s makes fails: row security is on for %s', s.rolname, s.relation),
        format('ALTER ROLE %I BYPASSRLS; or let a superuser make the backups.', s.rolname)
    FROM secured AS s
    UNION ALL
    SELECT 'backup', 'ok', 'the owners of the database and of host tables may read all that a pg_dump has to', NULL
    WHERE NOT EXISTS (SELECT FROM unread) AND NOT EXISTS (SELECT FROM secured)
$$;

-- Jobs that wait longer than workers sleep, and the reason: a locked table, the last error, or no worker. The age
-- counts and not due_at, since a job whose table is locked is postponed again and again.
CREATE FUNCTION chatbot_sync.check_queue() RETURNS TABLE (check_name text, status text, detail text, hint text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    patience interval := greatest(current_setting('chatbot_sync.naptime')::interval, interval '1 minute');
    soon timestamptz := clock_timestamp() + interval '2 seconds';
    jobs bigint;
    late bigint;
    oldest record;
    h record;
    reasons text[] := '{}';
    pids text;
    remedies text[] := '{}';
BEGIN
    SELECT count(*), count(*) FILTER (WHERE j.due_at <= soon AND least(j.created_at, j.due_at) <= clock_timestamp() - patience)
    INTO jobs, late FROM chatbot_sync.job AS j;
    IF late = 0 THEN
        RETURN QUERY SELECT 'queue', 'ok', format('%s jobs, none waits for more than %s', jobs, patience), NULL::text;
        RETURN;
    END IF;
    SELECT j.chatbot_id, j.source_type, j.source_id, least(j.created_at, j.due_at) AS since INTO oldest
    FROM chatbot_sync.job AS j WHERE j.due_at <= soon ORDER BY least(j.created_at, j.due_at) LIMIT 1;
    -- Host tables with a lock that keeps workers from reading rows and from writing their status.
    FOR h IN
        SELECT DISTINCT t.relation FROM chatbot_sync.host_table AS t
        WHERE EXISTS (SELECT FROM chatbot_sync.job AS j WHERE j.host = t.host AND j.due_at <= soon)
    LOOP
        SELECT string_agg(DISTINCT l.pid::text, ', ') INTO pids FROM pg_locks AS l
        WHERE l.locktype = 'relation' AND l.granted AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
            AND l.mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
            -- pg_partition_tree() is not used here, since it would wait for the lock.
            AND l.relation IN (WITH RECURSIVE tree AS (
                SELECT h.relation::oid AS oid UNION SELECT i.inhrelid FROM pg_inherits AS i JOIN tree ON tree.oid = i.inhparent) TABLE tree);
        IF pids IS NOT NULL THEN
            reasons := reasons || format('%s is locked by process %s', h.relation, pids);
            remedies := remedies || format('What holds the lock: SELECT * FROM pg_stat_activity WHERE pid IN (%s);', pids);
        END IF;
    END LOOP;
    -- Two queries instead of a join: sources may be on other nodes, jobs are local.
    reasons := reasons || ARRAY(SELECT format('the oldest has failed %s times: %s (%s)', s.attempts, s.error, s.error_code)
        FROM chatbot_sync.source AS s
        WHERE s.chatbot_id = oldest.chatbot_id AND s.source_type = oldest.source_type AND s.source_id = oldest.source_id AND s.error IS NOT NULL);
    IF NOT chatbot_sync.is_preloaded() THEN
        reasons := reasons || 'there are no workers, since the library is not preloaded'::text;
    END IF;
    RETURN QUERY SELECT 'queue', 'warning',
        format('%s jobs, %s wait for more than %s, the oldest (%s %s of chatbot %s) since %s', jobs, late, patience,
            oldest.source_type, oldest.source_id, oldest.chatbot_id, date_trunc('second', oldest.since))
            || CASE WHEN reasons = '{}' THEN '' ELSE ': ' || array_to_string(reasons, '; ') END,
        array_to_string(remedies || 'CALL chatbot_process_queue();'::text, ' ');
END
$$;

-- Host tables whose row-level security hides rows from their owner. Rows are read with the owner's rights, so hidden
-- ones cannot be.
CREATE FUNCTION chatbot_sync.check_row_security() RETURNS TABLE (check_name text, status text, detail text, hint text)
LANGUAGE sql SET search_path = pg_catalog, pg_temp
AS $$
    SELECT DISTINCT 'row-level security', 'error',
        format('row-level security of %s is forced, and its owner %s is subject to it: rows cannot be read, and get the status error',
            c.oid::regclass, r.rolname),
        format('ALTER TABLE %s NO FORCE ROW LEVEL SECURITY; or, as a superuser, ALTER ROLE %I BYPASSRLS; then CALL chatbot_sync_all();',
            c.oid::regclass, r.rolname)
    FROM chatbot_sync.host_table AS h
    CROSS JOIN LATERAL (WITH RECURSIVE tree AS (
        SELECT h.relation::oid AS oid UNION SELECT i.inhrelid FROM pg_inherits AS i JOIN tree ON tree.oid = i.inhparent) TABLE tree) AS t
    JOIN pg_class AS c ON c.oid = t.oid AND (c.oid = h.relation OR c.relispartition)
    JOIN pg_roles AS r ON r.oid = c.relowner
    WHERE c.relrowsecurity AND c.relforcerowsecurity AND NOT r.rolsuper AND NOT r.rolbypassrls
$$;
