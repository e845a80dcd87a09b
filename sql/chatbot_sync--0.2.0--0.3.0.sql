-- The changes that ALTER EXTENSION chatbot_sync UPDATE makes to a database of version 0.2.0. No table is rewritten. A
-- test compares the result with a new installation, object by object (pg_test/upgrade.rs).

-- Each index of jobs holds only the rows that its statements look for, so that jobs are found as fast when many others
-- wait or have failed.
DROP INDEX chatbot_sync.job_due;

CREATE INDEX job_due ON chatbot_sync.job (priority DESC, chatbot_id, due_at, id) WHERE due_at < 'infinity';

CREATE INDEX job_leased ON chatbot_sync.job (leased_by) WHERE leased_by > 0;

-- Functions that only the extension calls have names that say what they do.
ALTER FUNCTION chatbot_sync.queue_tell RENAME TO queue_write_status;
ALTER FUNCTION chatbot_sync.adopt RENAME TO register_existing_rows;
ALTER FUNCTION chatbot_sync.bring_indexes_back RENAME TO recreate_indexes;
ALTER FUNCTION chatbot_sync.put_indexes_aside RENAME TO save_and_drop_indexes;
ALTER FUNCTION chatbot_sync.count_waiting RENAME TO count_pending;
ALTER FUNCTION chatbot_sync.must_have_citus RENAME TO require_citus;
ALTER FUNCTION chatbot_sync.index_wanted RENAME TO record_wanted_index;
ALTER FUNCTION chatbot_sync.functions_of RENAME TO functions_of_level;
ALTER FUNCTION chatbot_sync.table_altered RENAME TO follow_alter_table;
ALTER FUNCTION chatbot_sync.triggers_restored RENAME TO follow_restored_triggers;
ALTER FUNCTION chatbot_sync.tables_dropped RENAME TO delete_sources_of_dropped_tables;
ALTER FUNCTION chatbot_sync.swap_model RENAME TO activate_next_model;
ALTER FUNCTION chatbot_sync.index_build RENAME TO build_indexes;
ALTER FUNCTION chatbot_sync.index_start RENAME TO start_index_build;
ALTER FUNCTION chatbot_sync.index_step RENAME TO wait_for_index_build;
ALTER FUNCTION chatbot_sync.doctor_of_nodes RENAME TO check_nodes;
ALTER FUNCTION chatbot_sync.in_each_shard RENAME TO run_in_each_shard;
ALTER FUNCTION chatbot_sync.act_as_owner RENAME TO run_functions_as_owner;

-- The plans of these statements do not depend on statistics.
CREATE OR REPLACE VIEW chatbot_sync.source_status AS
    SELECT chatbot_id, source_type, source_id,
        CASE WHEN s.status IS NULL OR s.status = 'synced' AND j.waits THEN 'pending' ELSE s.status END AS status,
        COALESCE(s.error, CASE WHEN s.truncated THEN 'the text goes on after its last chunk: chatbot_sync.max_chunks' END) AS reason,
        s.error_code, COALESCE(s.attempts, 0) AS attempts, s.next_attempt_at, COALESCE(s.chunk_count, 0) AS chunk_count,
        COALESCE(s.enabled, true) AS enabled, s.synced_at, now() - s.synced_at AS age
    FROM (SELECT chatbot_id, source_type, source_id, status, error, error_code, attempts, next_attempt_at, chunk_count, truncated,
            enabled, synced_at FROM chatbot_sync.source) AS s
    -- Jobs without a source: chatbot_enqueue_source() inserted them at REPEATABLE READ, and no worker has claimed them
    -- yet. A full join never becomes a nested loop, whatever the statistics say.
    FULL JOIN (SELECT DISTINCT chatbot_id, source_type, source_id, true AS waits FROM chatbot_sync.job WHERE due_at < 'infinity') AS j
        USING (chatbot_id, source_type, source_id);

CREATE OR REPLACE VIEW chatbot_sync.progress AS
    SELECT s.chatbot_id, s.source_type, s.sources, s.synced, s.pending, s.in_work, s.failed,
        round(COALESCE(l.per_second, 0)::numeric, 2)::float8 AS per_second,
        CASE WHEN s.pending + s.in_work > 0 AND l.per_second > 0
            THEN date_trunc('second', statement_timestamp() + make_interval(secs => (s.pending + s.in_work) / l.per_second))
        END AS estimated_end
    FROM (
        SELECT chatbot_id, source_type, count(*) AS sources,
            count(*) FILTER (WHERE leased IS NULL AND status = 'synced') AS synced,
            -- A source that is not enabled stays pending until it is: nothing waits for it.
            count(*) FILTER (WHERE leased IS FALSE OR leased IS NULL AND status = 'pending' AND enabled) AS pending,
            count(*) FILTER (WHERE leased) AS in_work,
            count(*) FILTER (WHERE leased IS NULL AND status = 'error') AS failed
        FROM (SELECT chatbot_id, source_type, source_id, status, enabled FROM chatbot_sync.source) AS s
        FULL JOIN (SELECT chatbot_id, source_type, source_id, bool_or(leased_by IS NOT NULL) AS leased
            FROM chatbot_sync.job WHERE due_at < 'infinity' GROUP BY chatbot_id, source_type, source_id) AS j
            USING (chatbot_id, source_type, source_id)
        GROUP BY chatbot_id, source_type
    ) AS s
    -- The rate of the last minute, or since the first sync within it began. Sources that are embedded together are logged
    -- together: where that takes long, twice as long is looked back, and silence for as long is no standstill.
    FULL JOIN (
        SELECT chatbot_id, source_type,
            count(*) / greatest(1,
                extract(epoch FROM max(logged_at) - min(logged_at)) + max(total_ms) / 1000,
                extract(epoch FROM statement_timestamp() - min(logged_at)))::float8 AS per_second
        FROM chatbot_sync.sync_log
        WHERE logged_at > statement_timestamp() - interval '1 minute' - 2 * interval '1 millisecond' * (
                SELECT COALESCE(max(total_ms), 0)
                FROM (SELECT total_ms FROM chatbot_sync.sync_log ORDER BY logged_at DESC LIMIT 50) AS latest
            )
            AND error_code IS NULL
            AND model_id = (SELECT id FROM chatbot_sync.model WHERE active)
        GROUP BY chatbot_id, source_type
    ) AS l USING (chatbot_id, source_type)
    WHERE COALESCE(s.sources, 0) > 0;

-- Dropping a model's vectors continues where it stopped.
DROP FUNCTION chatbot_sync.drop_vectors(int, int);

CREATE FUNCTION chatbot_sync.drop_vectors(model_id int, batch int, place tid) RETURNS tid
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off
AS $$
DECLARE
    places tid[];
BEGIN
    IF EXISTS (SELECT FROM chatbot_sync.model AS m WHERE m.id = model_id) THEN
        RETURN NULL;
    END IF;
    IF chatbot_sync.is_distributed() THEN
        DELETE FROM chatbot_sync.embedding AS e
        USING (SELECT f.chatbot_id, f.source_type, f.source_id, f.chunk_id FROM chatbot_sync.embedding AS f
            WHERE f.model_id = drop_vectors.model_id LIMIT batch) AS g
        WHERE (e.chatbot_id, e.source_type, e.source_id, e.chunk_id) = (g.chatbot_id, g.source_type, g.source_id, g.chunk_id)
            AND e.model_id = drop_vectors.model_id;
        RETURN CASE WHEN FOUND THEN place END;
    END IF;
    -- By their places: no join that the statistics could make a nested loop.
    places := ARRAY(SELECT f.ctid FROM chatbot_sync.embedding AS f
        WHERE f.ctid > place AND f.model_id = drop_vectors.model_id LIMIT batch);
    DELETE FROM chatbot_sync.embedding AS e WHERE e.ctid = ANY (places) AND e.model_id = drop_vectors.model_id;
    RETURN places[cardinality(places)];
END
$$;

REVOKE ALL ON FUNCTION chatbot_sync.drop_vectors FROM PUBLIC;

COMMENT ON FUNCTION chatbot_sync.follow_restored_triggers IS 'Follows a restore, which creates the extension''s triggers: writes the current numbers of the columns into them.';
COMMENT ON FUNCTION chatbot_sync.drop_vectors IS 'Deletes some vectors of a model that was deleted: a step of chatbot_drop_model().';

CREATE OR REPLACE PROCEDURE chatbot_drop_model(model_id int, batch int DEFAULT 10000)
LANGUAGE plpgsql
AS $$
DECLARE
    front CONSTANT tid := '(0,0)';
    place tid := front;
    gone boolean := false;
BEGIN
    IF model_id IS NULL THEN
        RAISE null_value_not_allowed USING MESSAGE = 'model_id is NULL', HINT = 'Models and their ids: TABLE chatbot_sync.model;';
    END IF;
    IF batch IS NULL OR batch OPERATOR(pg_catalog.<) 1 THEN
        RAISE invalid_parameter_value USING
            MESSAGE = pg_catalog.format('batch is %s, expected 1 or more', COALESCE(batch::text, 'NULL')), HINT = 'Rows that are deleted together.';
    END IF;
    IF EXISTS (SELECT FROM chatbot_sync.model AS m WHERE m.id OPERATOR(pg_catalog.=) model_id AND m.active) THEN
        RAISE object_in_use USING
            MESSAGE = pg_catalog.format('model %s is the one that answers', model_id),
            HINT = 'Choose another first, with chatbot_set_model() and CALL chatbot_reembed();';
    END IF;
    IF NOT EXISTS (SELECT FROM chatbot_sync.model AS m WHERE m.id OPERATOR(pg_catalog.=) model_id) THEN
        RAISE invalid_parameter_value USING
            MESSAGE = pg_catalog.format('model_id is %s, expected the id of a model', model_id),
            HINT = 'Models and their ids: TABLE chatbot_sync.model;';
    END IF;
    PERFORM @extschema@.chatbot_drop_index(model_id);
    PERFORM chatbot_sync.drop_model_file(model_id);
    DELETE FROM chatbot_sync.model AS m WHERE m.id OPERATOR(pg_catalog.=) model_id;
    UPDATE chatbot_sync.model AS m SET replaced = NULL WHERE m.replaced OPERATOR(pg_catalog.=) model_id;
    LOOP
        place := chatbot_sync.drop_vectors(model_id, batch, place);
        IF NOT chatbot_sync.in_transaction_block() THEN
            COMMIT;
        END IF;
        IF place IS NOT NULL THEN
            gone := true;
            CONTINUE;
        END IF;
        -- Once more from the front: a transaction that was open when the model went may have stored vectors since.
        EXIT WHEN NOT gone;
        gone := false;
        place := front;
    END LOOP;
END
$$;

ALTER FUNCTION chatbot_repair() SET enable_seqscan = off;

-- A row that cannot be read does not stop the sync of other rows, and a row that a policy hides does not count as
-- deleted.
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

REVOKE ALL ON FUNCTION chatbot_sync.check_queue, chatbot_sync.check_row_security FROM PUBLIC;

COMMENT ON FUNCTION chatbot_sync.check_queue IS 'Checks of chatbot_doctor().';

COMMENT ON FUNCTION chatbot_sync.check_row_security IS 'Checks of chatbot_doctor().';

CREATE OR REPLACE FUNCTION chatbot_sync.check_hosts() RETURNS TABLE (check_name text, status text, detail text, hint text)
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

CREATE OR REPLACE FUNCTION chatbot_doctor() RETURNS TABLE (check_name text, status text, detail text, hint text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    version text;
    version_of_vector text;
    lacks record;
    found bigint;
    said text;
    began timestamptz;
    down boolean := false;
BEGIN
    -- If the library does not serve this version of the SQL, the other checks cannot run.
    SELECT * INTO check_name, status, detail, hint FROM chatbot_sync.check_version() AS v;
    RETURN NEXT;
    IF status = 'error' THEN
        RETURN;
    END IF;
    -- pgvector
    SELECT e.extversion INTO version_of_vector FROM pg_extension AS e WHERE e.extname = 'vector';
    version := version_of_vector;
    RETURN QUERY SELECT 'pgvector',
        CASE WHEN string_to_array(version, '.')::int[] >= ARRAY[0, 5] THEN 'ok' ELSE 'error' END,
        'version ' || version, CASE WHEN string_to_array(version, '.')::int[] >= ARRAY[0, 5] THEN NULL ELSE 'ALTER EXTENSION vector UPDATE;' END;
    RETURN QUERY SELECT * FROM chatbot_sync.check_database();
    RETURN QUERY SELECT * FROM chatbot_sync.check_roles();
    -- The provider is asked for one vector.
    began := clock_timestamp();
    IF NOT chatbot_sync.is_enabled() THEN
        RETURN QUERY SELECT 'provider', 'ok', 'not asked: chatbot_sync.enabled is off', NULL::text;
    ELSE
        BEGIN
            PERFORM @extschema@.chatbot_embed('Is anybody there?', 'query');
            RETURN QUERY SELECT 'provider', 'ok', format('%s answered in %s ms',
                COALESCE((SELECT m.provider || ' (' || m.model || ')' FROM chatbot_sync.model AS m WHERE m.active), 'the built-in model'),
                round(extract(epoch FROM clock_timestamp() - began) * 1000)), NULL::text;
        EXCEPTION WHEN query_canceled THEN
            RAISE;
        WHEN OTHERS THEN
            GET STACKED DIAGNOSTICS said = PG_EXCEPTION_DETAIL, version = PG_EXCEPTION_HINT;
            RETURN QUERY SELECT 'provider', 'error', format('%s %s (%s)', SQLERRM, said, SQLSTATE), version;
        END;
    END IF;
    -- Nodes of Citus come first, since the checks below would fail on a node that is down.
    FOR check_name, status, detail, hint IN SELECT * FROM chatbot_sync.check_nodes() AS n LOOP
        RETURN NEXT;
        down := down OR check_name = 'node down';
    END LOOP;
    IF down THEN
        RETURN;
    END IF;
    RETURN QUERY SELECT * FROM chatbot_sync.check_workers();
    RETURN QUERY SELECT * FROM chatbot_sync.check_queue();
    RETURN QUERY SELECT * FROM chatbot_sync.check_row_security();
    SELECT count(*) INTO found FROM chatbot_sync.job AS j WHERE j.leased_by IS NOT NULL
        AND NOT EXISTS (SELECT FROM pg_stat_activity AS a WHERE a.pid = j.leased_by);
    IF found > 0 THEN
        RETURN QUERY SELECT 'leases', 'warning', format('%s jobs are leased by processes that are gone', found),
            'They come back with the next worker, or now: CALL chatbot_process_queue();';
    END IF;
    -- Sources
    SELECT count(*), min(format('%s %s of chatbot %s: %s', s.source_type, s.source_id, s.chatbot_id, s.error)) INTO found, said
    FROM chatbot_sync.source AS s WHERE s.status = 'error';
    RETURN QUERY SELECT 'sources in error', CASE WHEN found > 0 THEN 'error' ELSE 'ok' END,
        CASE WHEN found > 0 THEN format('%s, as %s', found, said) ELSE 'none' END,
        CASE WHEN found > 0 THEN 'When the reason is gone: SELECT chatbot_retry(); and CALL chatbot_process_queue();' END;
    SELECT count(*) INTO found FROM chatbot_sync.source AS s
    LEFT JOIN (SELECT DISTINCT q.chatbot_id, q.source_type, q.source_id FROM chatbot_sync.job AS q) AS j
        ON (j.chatbot_id, j.source_type, j.source_id) = (s.chatbot_id, s.source_type, s.source_id)
    WHERE s.status = 'pending' AND s.enabled AND s.host IS NOT NULL AND j.chatbot_id IS NULL;
    RETURN QUERY SELECT 'sources that wait', CASE WHEN found > 0 THEN 'warning' ELSE 'ok' END,
        format('%s without a job', found), CASE WHEN found > 0 THEN 'CALL chatbot_sync_all();' END;
    SELECT count(*) INTO found FROM chatbot_sync.source AS s WHERE s.truncated;
    IF found > 0 THEN
        RETURN QUERY SELECT 'truncated sources', 'warning', format('the end of %s is not searched', found),
            format('ALTER DATABASE %I SET chatbot_sync.max_chunks = 1000; and in a new session CALL chatbot_sync_all(refresh => true); Which: SELECT * FROM chatbot_sync.source WHERE truncated;', current_database());
    END IF;
    RETURN QUERY SELECT * FROM chatbot_sync.check_sources();
    RETURN QUERY SELECT * FROM chatbot_sync.check_hosts();
    RETURN QUERY SELECT * FROM chatbot_sync.check_backup();
    RETURN QUERY SELECT * FROM chatbot_sync.check_triggers();
    -- Models
    IF EXISTS (SELECT FROM chatbot_sync.model AS m WHERE m.next) THEN
        RETURN QUERY SELECT 'models', 'warning', (SELECT format('model %s is to follow and is not whole', m.model) FROM chatbot_sync.model AS m WHERE m.next),
            'CALL chatbot_reembed();';
    END IF;
    SELECT count(*) INTO found FROM chatbot_sync.model AS m WHERE NOT m.active AND NOT m.next
        AND m.id IN (SELECT DISTINCT e.model_id FROM chatbot_sync.embedding AS e);
    IF found > 0 THEN
        RETURN QUERY SELECT 'models', 'ok', format('%s models keep vectors that no search uses', found),
            'If you do not go back: CALL chatbot_drop_model(id); the ids: TABLE chatbot_sync.model;';
    END IF;
    -- Indexes
    FOR lacks IN
        SELECT x.id, x.index_error, string_agg(format('%s is %s', i.name, CASE WHEN i.present THEN 'invalid' ELSE 'missing' END), ', ') AS lacking
        FROM chatbot_sync.model AS x JOIN chatbot_sync.model_index AS i ON i.model_id = x.id AND i.wanted AND NOT i.valid GROUP BY x.id
    LOOP
        -- With Citus pg_stat_progress_create_index has rows on the nodes only, so the background worker that builds is
        -- looked for as well.
        IF EXISTS (SELECT FROM pg_stat_progress_create_index AS p WHERE p.datname = current_database() AND p.relid = 'chatbot_sync.embedding'::regclass)
            OR EXISTS (SELECT FROM pg_stat_activity AS a WHERE a.datname = current_database() AND a.backend_type = 'chatbot_sync index')
        THEN
            RETURN QUERY SELECT 'indexes', 'ok', 'an index is being made', NULL::text;
        ELSE
            RETURN QUERY SELECT 'indexes', 'error', concat_ws(': ', lacks.lacking, lacks.index_error), format('CALL chatbot_create_index(%s);', lacks.id);
        END IF;
    END LOOP;
    IF EXISTS (SELECT FROM chatbot_sync.model AS m JOIN chatbot_sync.model_index AS i ON i.model_id = m.id WHERE m.active AND i.kind = 'hnsw' AND i.valid) THEN
        IF string_to_array(version_of_vector, '.')::int[] < ARRAY[0, 8] THEN
            RETURN QUERY SELECT 'indexes', 'warning', format('pgvector %s does not go on where a filter leaves too few: then all is read', version_of_vector),
                'Install pgvector 0.8 or later, then ALTER EXTENSION vector UPDATE;';
        END IF;
        IF 'true' = ANY (chatbot_sync.run_in_each_shard('chatbot_sync.embedding', 'SELECT (c.reltuples <> 0 AND NOT EXISTS (SELECT FROM pg_statistic AS s WHERE s.starelid = c.oid))::text FROM pg_class AS c WHERE c.oid = ''%s''::regclass')) THEN
            RETURN QUERY SELECT 'indexes', 'warning', 'Postgres does not know which chatbots are large, and so uses no index',
                'ANALYZE chatbot_sync.embedding, chatbot_sync.source;';
        END IF;
    ELSIF NOT EXISTS (SELECT FROM chatbot_sync.model AS m WHERE m.active AND m.indexed) THEN
        -- The same rule as in src/search/plan.rs, with four times its limit, since an index makes each write slower.
        RETURN QUERY SELECT 'indexes', 'warning', a, 'CALL chatbot_create_index();'
        FROM unnest(chatbot_sync.run_in_each_shard('chatbot_sync.source', $sql$
            SELECT 'a search of chatbot ' || s.chatbot_id || ' reads all its ' || s.chunks || ' chunks'
            FROM (SELECT x.chatbot_id, sum(x.chunk_count) AS chunks, sum(sum(x.chunk_count)) OVER () AS of_all FROM %s AS x GROUP BY x.chatbot_id) AS s
            WHERE s.chunks > greatest(1, 50 * s.of_all / nullif(s.chunks, 0) / 500) * 4 * $sql$ || current_setting('chatbot_sync.exact_search_limit') || '
            ORDER BY s.chunks DESC LIMIT 1')) AS a
        LIMIT 1;
    END IF;
    RETURN QUERY SELECT * FROM chatbot_sync.check_index_memory();
    RETURN QUERY SELECT * FROM chatbot_sync.check_keys();
    RETURN QUERY SELECT * FROM chatbot_sync.check_local_models();
END
$$;

CREATE OR REPLACE FUNCTION chatbot_repair() RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off
AS $$
DECLARE
    p record;
    done text;
    repaired bigint := 0;
    waiting bigint;
BEGIN
    FOR p IN SELECT * FROM @extschema@.chatbot_verify() LOOP
        CASE p.problem
        -- A row that cannot be read may exist all the same, so its source is kept.
        WHEN 'unreadable', 'invalid id' THEN
            RAISE NOTICE '% % of chatbot %: %: left as it is: %', p.source_type, p.source_id, p.chatbot_id, p.problem, p.detail;
            CONTINUE;
        WHEN 'orphan' THEN
            PERFORM @extschema@.chatbot_delete_source(p.chatbot_id, p.source_type, p.source_id);
            done := 'forgotten';
        WHEN 'detached' THEN
            -- One that is pending: nothing will embed it any more.
            DELETE FROM chatbot_sync.source AS s
            WHERE (s.chatbot_id, s.source_type, s.source_id) = (p.chatbot_id, p.source_type, p.source_id)
                AND s.status = 'pending' AND s.content_hash IS NULL AND s.chunk_count = 0;
            done := 'forgotten: it was never embedded';
            IF NOT FOUND THEN
                UPDATE chatbot_sync.source AS s SET host = NULL,
                    status = CASE WHEN s.status <> 'pending' THEN s.status WHEN s.content_hash IS NULL THEN 'error' ELSE 'synced' END,
                    error_code = CASE WHEN s.status = 'pending' AND s.content_hash IS NULL THEN '55000'
                        WHEN s.status <> 'pending' OR s.error_code = '01000' THEN s.error_code END,
                    error = CASE WHEN s.status = 'pending' AND s.content_hash IS NULL
                            THEN 'its table was detached before it was embedded. Embed it again.'
                        WHEN s.status <> 'pending' OR s.error_code = '01000' THEN s.error END
                WHERE (s.chatbot_id, s.source_type, s.source_id) = (p.chatbot_id, p.source_type, p.source_id);
                done := 'kept, as no table''s';
            END IF;
        WHEN 'double job' THEN
            DELETE FROM chatbot_sync.job AS j
            WHERE (j.chatbot_id, j.source_type, j.source_id) = (p.chatbot_id, p.source_type, p.source_id)
                AND j.due_at = 'infinity' AND EXISTS (SELECT FROM chatbot_sync.job AS k WHERE k.due_at = 'infinity' AND k.id > j.id
                    AND (k.chatbot_id, k.source_type, k.source_id) = (j.chatbot_id, j.source_type, j.source_id));
            done := 'all but the newest deleted';
        WHEN 'missing' THEN
            done := 'is a source now';
        WHEN 'wrong attributes' THEN
            UPDATE chatbot_sync.embedding AS e SET enabled = s.enabled, metadata = CASE WHEN e.lang IS NULL THEN s.metadata
                ELSE s.metadata || jsonb_build_object('lang', e.lang) END
            FROM chatbot_sync.source AS s
            WHERE (s.chatbot_id, s.source_type, s.source_id) = (p.chatbot_id, p.source_type, p.source_id)
                AND (e.chatbot_id, e.source_type, e.source_id) = (p.chatbot_id, p.source_type, p.source_id);
            done := 'its chunks have what it has';
        WHEN 'outdated' THEN
            UPDATE chatbot_sync.source AS s SET status = 'pending'
            WHERE (s.chatbot_id, s.source_type, s.source_id) = (p.chatbot_id, p.source_type, p.source_id) AND s.host IS NOT NULL;
            done := 'to be cut and read anew';
            IF NOT FOUND THEN
                PERFORM chatbot_sync.reread_words(p.chatbot_id, p.source_type, p.source_id);
                done := 'its words read anew';
            END IF;
        ELSE
            -- The text of such a source is in no host table, so only the application can embed it again.
            UPDATE chatbot_sync.source AS s SET content_hash = NULL, enabled = s.enabled OR p.problem = 'stale',
                status = CASE WHEN s.host IS NULL THEN 'error' ELSE 'pending' END,
                error_code = CASE WHEN s.host IS NULL THEN '55000' END,
                error = CASE WHEN s.host IS NULL THEN p.problem || ': ' || p.detail || '. Embed it again.' END
            WHERE (s.chatbot_id, s.source_type, s.source_id) = (p.chatbot_id, p.source_type, p.source_id);
            IF p.problem <> 'stale' THEN
                DELETE FROM chatbot_sync.embedding AS e
                WHERE (e.chatbot_id, e.source_type, e.source_id) = (p.chatbot_id, p.source_type, p.source_id);
            END IF;
            done := CASE WHEN p.problem = 'stale' THEN 'to be embedded again' ELSE 'its vectors deleted, to be embedded again' END;
        END CASE;
        RAISE NOTICE '% % of chatbot %: %: %', p.source_type, p.source_id, p.chatbot_id, p.problem, done;
        repaired := repaired + 1;
    END LOOP;
    FOR p IN SELECT DISTINCT i.model_id FROM chatbot_sync.model_index AS i WHERE i.wanted AND NOT i.valid LOOP
        PERFORM chatbot_sync.build_indexes(p.model_id);
        RAISE NOTICE 'model %: it had not all its indexes', p.model_id;
        repaired := repaired + 1;
    END LOOP;
    -- Creates missing triggers on inheritance children and partitions.
    FOR p IN SELECT h.relation FROM chatbot_sync.host_table AS h LOOP
        DECLARE
            waits text := current_setting('lock_timeout');
        BEGIN
            PERFORM set_config('lock_timeout', '100ms', true);
            PERFORM chatbot_sync.follow_alter_table(p.relation);
            PERFORM set_config('lock_timeout', waits, true);
        EXCEPTION WHEN lock_not_available THEN
            RAISE WARNING '% is locked by another session: it is left out', p.relation;
        END;
    END LOOP;
    PERFORM chatbot_sync.register_existing_rows();
    SELECT count(*) INTO waiting FROM chatbot_sync.source AS s
    WHERE s.status = 'pending' AND s.enabled AND s.host IS NOT NULL;
    IF waiting > 0 THEN
        RAISE NOTICE '% sources are pending: CALL chatbot_sync_all();', waiting;
    END IF;
    RETURN repaired;
END
$$;

-- Sources are made again when the settings, the table or the text search configuration that they were made with change:
-- chatbot_sync_all(refresh => true), rewritten tables, ALTER TEXT SEARCH CONFIGURATION.
DROP PROCEDURE chatbot_sync_all(bigint, int);

CREATE PROCEDURE chatbot_sync_all(chatbot_id bigint DEFAULT NULL, batch int DEFAULT 100, refresh boolean DEFAULT false)
LANGUAGE plpgsql
AS $$
DECLARE
    step record;
    last_chatbot_id bigint;
    last_source_type text;
    last_source_id bigint;
    whole bigint;
    done bigint := 0;
    failed bigint := 0;
    more boolean;
    marked bigint := 0;
    words_read bigint := 0;
    cut_by_hand bigint := 0;
BEGIN
    IF refresh IS NULL THEN
        RAISE null_value_not_allowed USING
            MESSAGE = 'refresh is NULL',
            HINT = 'true, to cut and read anew what other settings have made, or false.';
    END IF;
    IF batch IS NULL OR batch OPERATOR(pg_catalog.<) 1 THEN
        RAISE invalid_parameter_value USING
            MESSAGE = pg_catalog.format('batch is %s, expected 1 or more', COALESCE(batch::text, 'NULL')),
            HINT = 'As many sources are committed together.';
    END IF;
    WHILE refresh LOOP
        SELECT * INTO step
        FROM chatbot_sync.refresh_batch(chatbot_id, last_chatbot_id, last_source_type, last_source_id) AS s;
        IF NOT chatbot_sync.in_transaction_block() THEN
            COMMIT;
        END IF;
        marked := marked OPERATOR(pg_catalog.+) step.marked;
        words_read := words_read OPERATOR(pg_catalog.+) step.words_read;
        cut_by_hand := cut_by_hand OPERATOR(pg_catalog.+) step.cut_by_hand;
        last_chatbot_id := step.last_chatbot_id;
        last_source_type := step.last_source_type;
        last_source_id := step.last_source_id;
        EXIT WHEN step.looked_at OPERATOR(pg_catalog.=) 0;
    END LOOP;
    IF refresh THEN
        RAISE NOTICE '% sources were made with other settings, and are cut and read anew', marked;
    END IF;
    IF words_read OPERATOR(pg_catalog.>) 0 THEN
        RAISE NOTICE 'the words of % sources that no table has were read anew', words_read;
    END IF;
    IF cut_by_hand OPERATOR(pg_catalog.>) 0 THEN
        RAISE NOTICE '% sources that no table has were cut with other settings: their text is not here, chatbot_embed_source() has to be given it again', cut_by_hand;
    END IF;
    PERFORM chatbot_sync.register_existing_rows();
    whole := chatbot_sync.count_pending(chatbot_id);
    LOOP
        SELECT * INTO step
        FROM chatbot_sync.sync_batch(chatbot_id, batch, last_chatbot_id, last_source_type, last_source_id) AS s;
        EXIT WHEN step.taken OPERATOR(pg_catalog.=) 0;
        -- In a transaction block that the caller began, only the caller may commit.
        IF NOT chatbot_sync.in_transaction_block() THEN
            COMMIT;
        END IF;
        done := done OPERATOR(pg_catalog.+) step.taken;
        failed := failed OPERATOR(pg_catalog.+) step.failed;
        last_chatbot_id := step.last_chatbot_id;
        last_source_type := step.last_source_type;
        last_source_id := step.last_source_id;
        RAISE NOTICE '% of % sources, % failed', done, greatest(done, whole), failed;
        IF step.stopped IS NOT NULL THEN
            RAISE WARNING 'stopped: %', step.stopped USING HINT = 'What is not done is still pending: call it again.';
            EXIT;
        END IF;
    END LOOP;
    LOOP
        more := chatbot_sync.purge_log();
        IF NOT chatbot_sync.in_transaction_block() THEN
            COMMIT;
        END IF;
        EXIT WHEN NOT more;
    END LOOP;
END
$$;

REVOKE ALL ON PROCEDURE chatbot_sync_all FROM PUBLIC;

COMMENT ON PROCEDURE chatbot_sync_all IS 'Embeds every row of attached tables that is pending or in error, and with refresh those that were chunked or read with other settings; commits batch by batch.';

CREATE FUNCTION chatbot_sync.refresh_batch(chatbot_id bigint, after_chatbot_id bigint, after_source_type text,
    after_source_id bigint)
RETURNS TABLE (looked_at bigint, marked bigint, words_read bigint, cut_by_hand bigint, last_chatbot_id bigint,
    last_source_type text, last_source_id bigint)
LANGUAGE c SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'chatbot_sync_refresh_batch_wrapper';

REVOKE ALL ON FUNCTION chatbot_sync.refresh_batch FROM PUBLIC;

COMMENT ON FUNCTION chatbot_sync.refresh_batch IS 'Compares one batch of sources with the session''s settings: a step of chatbot_sync_all(refresh => true).';

CREATE FUNCTION chatbot_sync.count_outdated_sources()
RETURNS TABLE (of_tables bigint, words_by_hand bigint, cut_by_hand bigint)
LANGUAGE c AS 'MODULE_PATHNAME', 'chatbot_sync_count_outdated_sources_wrapper';

REVOKE ALL ON FUNCTION chatbot_sync.count_outdated_sources FROM PUBLIC;

COMMENT ON FUNCTION chatbot_sync.count_outdated_sources IS 'Counts the sources that were chunked or read with other settings than the session''s.';

CREATE FUNCTION chatbot_sync.reread_words(chatbot_id bigint, source_type text, source_id bigint) RETURNS void
LANGUAGE c AS 'MODULE_PATHNAME', 'chatbot_sync_read_words_anew_wrapper';

REVOKE ALL ON FUNCTION chatbot_sync.reread_words FROM PUBLIC;

COMMENT ON FUNCTION chatbot_sync.reread_words IS 'Reads the words of one source again, from its chunks.';

CREATE FUNCTION chatbot_sync.note_table_rewrite(relation regclass, reason int) RETURNS void
LANGUAGE c AS 'MODULE_PATHNAME', 'chatbot_sync_note_table_rewrite_wrapper';

REVOKE ALL ON FUNCTION chatbot_sync.note_table_rewrite FROM PUBLIC;

COMMENT ON FUNCTION chatbot_sync.note_table_rewrite IS 'Records that the running statement rewrites a table.';

CREATE FUNCTION chatbot_sync.reconcile_rewritten_tables(types oid[]) RETURNS void
LANGUAGE c AS 'MODULE_PATHNAME', 'chatbot_sync_reconcile_rewritten_tables_wrapper';

REVOKE ALL ON FUNCTION chatbot_sync.reconcile_rewritten_tables FROM PUBLIC;

COMMENT ON FUNCTION chatbot_sync.reconcile_rewritten_tables IS 'Compares rows with their sources after a statement that rewrote their table or altered a type of theirs.';

CREATE FUNCTION chatbot_sync.after_rewrite() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM chatbot_sync.note_table_rewrite(pg_event_trigger_table_rewrite_oid(), pg_event_trigger_table_rewrite_reason());
END
$$;

REVOKE ALL ON FUNCTION chatbot_sync.after_rewrite FROM PUBLIC;

COMMENT ON FUNCTION chatbot_sync.after_rewrite IS 'Records which tables a statement rewrites.';

CREATE FUNCTION chatbot_sync.mark_words_outdated(configuration text, as_if text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    marked bigint;
BEGIN
    UPDATE chatbot_sync.source AS s SET chunking[6] = 0, text_search_configs = array_replace(s.text_search_configs, configuration, as_if)
    WHERE s.text_search_configs @> ARRAY[configuration] AND s.chunk_count > 0;
    GET DIAGNOSTICS marked = ROW_COUNT;
    IF marked > 0 THEN
        RAISE NOTICE 'the words of % sources were read with % as it was: CALL chatbot_sync_all(refresh => true);', marked, configuration;
    END IF;
END
$$;

REVOKE ALL ON FUNCTION chatbot_sync.mark_words_outdated FROM PUBLIC;

COMMENT ON FUNCTION chatbot_sync.mark_words_outdated IS 'Marks the sources whose words a text search configuration has read, so that they are read again.';

CREATE FUNCTION chatbot_sync.after_text_search() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c record;
    before text;
BEGIN
    FOR c IN
        SELECT DISTINCT x.oid, x.cfgname, x.cfgnamespace::regnamespace || '.' || quote_ident(x.cfgname) AS name, d.classid = 'pg_ts_dict'::regclass AS by_dictionary
        FROM pg_event_trigger_ddl_commands() AS d JOIN pg_ts_config AS x ON CASE d.classid
            WHEN 'pg_ts_config'::regclass THEN x.oid = d.objid
            WHEN 'pg_namespace'::regclass THEN x.cfgnamespace = d.objid
            WHEN 'pg_ts_dict'::regclass THEN EXISTS (SELECT FROM pg_ts_config_map AS m WHERE m.mapcfg = x.oid AND m.mapdict = d.objid)
        END
    LOOP
        -- A name in the sources that no configuration has any more is the former name of this one: the statement
        -- renamed it.
        before := NULL;
        IF NOT c.by_dictionary AND NOT EXISTS (SELECT FROM chatbot_sync.source AS s WHERE s.text_search_configs @> ARRAY[c.name]) THEN
            SELECT n.name INTO before FROM (SELECT DISTINCT unnest(s.text_search_configs) AS name FROM chatbot_sync.source AS s) AS n
            WHERE NOT EXISTS (SELECT FROM pg_ts_config AS x WHERE x.cfgnamespace::regnamespace || '.' || quote_ident(x.cfgname) = n.name)
            ORDER BY n.name LIKE '%.' || quote_ident(c.cfgname) DESC LIMIT 1;
        END IF;
        IF before IS NULL THEN
            PERFORM chatbot_sync.mark_words_outdated(c.name, c.name);
        ELSE
            UPDATE chatbot_sync.source AS s SET text_search_configs = array_replace(s.text_search_configs, before, c.name)
            WHERE s.text_search_configs @> ARRAY[before];
        END IF;
    END LOOP;
END
$$;

REVOKE ALL ON FUNCTION chatbot_sync.after_text_search FROM PUBLIC;

COMMENT ON FUNCTION chatbot_sync.after_text_search IS 'Follows changes of text search configurations and dictionaries.';

CREATE OR REPLACE FUNCTION chatbot_sync.functions_of_level(level text) RETURNS SETOF regprocedure
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT p.oid::regprocedure
    FROM pg_proc p
    JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
    JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND e.extname = 'chatbot_sync'
    JOIN (VALUES
        ('chatbot_search', 1), ('chatbot_embed', 1), ('chatbot_chunk', 1),
        ('chatbot_embed_source', 2), ('chatbot_delete_source', 2), ('chatbot_cleanup', 2),
        ('chatbot_session_open', 2), ('chatbot_session_add_message', 2), ('chatbot_session_messages', 2),
        ('chatbot_session_close', 2), ('chatbot_attach', 2), ('chatbot_attach_chatbots', 2), ('chatbot_detach', 2),
        ('chatbot_sync_all', 2), ('register_existing_rows', 2), ('count_pending', 2), ('sync_batch', 2), ('refresh_batch', 2), ('in_transaction_block', 2), ('host_changed', 2),
        ('chatbot_enqueue_source', 2), ('chatbot_retry', 2), ('chatbot_process_queue', 2), ('queue_claim', 2),
        ('queue_embed', 2), ('queue_store', 2), ('queue_write_status', 2), ('purge_log', 2),
        ('host_status', 2), ('host_truncated', 2), ('chatbots_deleted', 2),
        ('chatbot_estimate', 2), ('chatbot_metrics', 1), ('chatbot_doctor', 2), ('chatbot_verify', 3), ('chatbot_repair', 3), ('chatbot_set_model', 3), ('chatbot_add_source_type', 3), ('chatbot_drop_source_type', 3), ('chatbot_reembed', 3), ('chatbot_drop_model', 3),
        ('reembed_begin', 3), ('reembed_batch', 3), ('activate_next_model', 3), ('drop_vectors', 3), ('drop_model_file', 3), ('chatbot_create_index', 3), ('chatbot_drop_index', 3), ('record_wanted_index', 3), ('default_quantization', 3), ('measure_recall_of_bits', 3), ('has_half_type', 3), ('is_distributed', 1),
        ('build_indexes', 3), ('start_index_build', 3), ('wait_for_index_build', 3)
    ) AS f (name, least) ON f.name = p.proname
    WHERE f.least <= CASE level WHEN 'read' THEN 1 WHEN 'app' THEN 2 WHEN 'admin' THEN 3 END
$$;

CREATE OR REPLACE FUNCTION chatbot_sync.after_ddl() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    changed oid;
BEGIN
    FOR changed IN
        SELECT c.objid FROM pg_event_trigger_ddl_commands() AS c WHERE c.classid = 'pg_class'::regclass
    LOOP
        PERFORM chatbot_sync.follow_alter_table(changed);
    END LOOP;
    FOR changed IN
        SELECT t.tgrelid FROM pg_event_trigger_ddl_commands() AS c
        JOIN pg_trigger AS t ON t.oid = c.objid JOIN pg_proc AS p ON p.oid = t.tgfoid
        WHERE c.classid = 'pg_trigger'::regclass AND p.pronamespace = 'chatbot_sync'::regnamespace
    LOOP
        PERFORM chatbot_sync.follow_restored_triggers(changed);
    END LOOP;
    -- ALTER TYPE may have changed the values of columns of this type, also of a composite one: rows with such columns
    -- are compared with their sources.
    PERFORM chatbot_sync.reconcile_rewritten_tables(ARRAY(
        SELECT c.objid FROM pg_event_trigger_ddl_commands() AS c WHERE c.classid = 'pg_type'::regclass
        UNION
        SELECT r.reltype FROM pg_event_trigger_ddl_commands() AS c JOIN pg_class AS r ON r.oid = c.objid AND r.relkind = 'c'
        WHERE c.classid = 'pg_class'::regclass));
END
$$;

CREATE OR REPLACE FUNCTION chatbot_sync.after_drop() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    hosts int[];
    changed oid;
    chatbot bigint;
    gone text;
BEGIN
    FOR gone IN
        SELECT quote_ident(d.address_names[1]) || '.' || quote_ident(d.address_names[2]) FROM pg_event_trigger_dropped_objects() AS d
        WHERE d.object_type = 'text search configuration'
    LOOP
        PERFORM chatbot_sync.mark_words_outdated(gone, 'pg_catalog.simple');
    END LOOP;
    -- The extension's triggers that were dropped with their tables. Those that were dropped by name were detached, and their
    -- sources stay.
    SELECT array_agg(DISTINCT substring(d.address_names[3] FROM '^chatbot_sync_([0-9]+)_insert$')::int) INTO hosts
    FROM pg_event_trigger_dropped_objects() AS d
    WHERE d.object_type = 'trigger' AND NOT d.original AND d.address_names[3] ~ '^chatbot_sync_[0-9]+_insert$';
    IF hosts IS NOT NULL THEN
        PERFORM chatbot_sync.delete_sources_of_dropped_tables(hosts);
    END IF;
    -- The table of chatbots was dropped, and with it every chatbot.
    IF EXISTS (
        SELECT FROM pg_event_trigger_dropped_objects() AS d
        WHERE d.object_type = 'trigger' AND NOT d.original AND d.address_names[3] = 'chatbot_sync_chatbots_delete'
    ) AND NOT EXISTS (SELECT FROM pg_trigger AS t WHERE t.tgname = 'chatbot_sync_chatbots_delete') THEN
        FOR chatbot IN SELECT s.chatbot_id FROM chatbot_sync.source AS s UNION SELECT s.chatbot_id FROM chatbot_sync.session AS s LOOP
            PERFORM @extschema@.chatbot_cleanup(chatbot);
        END LOOP;
    END IF;
    -- DROP TYPE ... CASCADE drops columns of this type.
    FOR changed IN
        SELECT DISTINCT d.objid FROM pg_event_trigger_dropped_objects() AS d JOIN pg_class AS c ON c.oid = d.objid
        WHERE d.object_type = 'table column'
    LOOP
        PERFORM chatbot_sync.follow_alter_table(changed);
    END LOOP;
END
$$;

CREATE OR REPLACE FUNCTION chatbot_sync.check_sources() RETURNS TABLE (check_name text, status text, detail text, hint text)
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

DROP EVENT TRIGGER chatbot_sync_ddl;

CREATE EVENT TRIGGER chatbot_sync_ddl ON ddl_command_end
    WHEN TAG IN ('ALTER TABLE', 'CREATE TABLE', 'CREATE TRIGGER', 'ALTER TYPE', 'CREATE FOREIGN TABLE', 'ALTER FOREIGN TABLE')
    EXECUTE FUNCTION chatbot_sync.after_ddl();

COMMENT ON EVENT TRIGGER chatbot_sync_ddl IS 'Follows CREATE and ALTER of host tables, of their triggers and of their types.';

CREATE EVENT TRIGGER chatbot_sync_rewrite ON table_rewrite EXECUTE FUNCTION chatbot_sync.after_rewrite();

COMMENT ON EVENT TRIGGER chatbot_sync_rewrite IS 'Records which tables a statement rewrites.';

CREATE EVENT TRIGGER chatbot_sync_text_search ON ddl_command_end
    WHEN TAG IN ('ALTER TEXT SEARCH CONFIGURATION', 'ALTER TEXT SEARCH DICTIONARY', 'ALTER SCHEMA')
    EXECUTE FUNCTION chatbot_sync.after_text_search();

COMMENT ON EVENT TRIGGER chatbot_sync_text_search IS 'Follows changes of text search configurations and dictionaries.';

COMMENT ON COLUMN chatbot_sync.source.chunking IS 'The version of the chunker, chunk size, overlap and limit that the chunks were made with, how the content was read (1: HTML, 2: translated), and the version of the code that read its words (0: they are to be read again).';

-- A new model can take over although its provider refuses some texts.
CREATE FUNCTION chatbot_sync.reembed_begin(skip_errors boolean) RETURNS void
LANGUAGE c SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'chatbot_sync_reembed_begin_wrapper';

-- skip_errors has no default: with one, a call without arguments would be ambiguous between the two procedures.
CREATE PROCEDURE chatbot_reembed(skip_errors boolean, batch int DEFAULT 100)
LANGUAGE plpgsql
AS $$
DECLARE
    step record;
    last_chatbot_id bigint;
    last_source_type text;
    last_source_id bigint;
    to_index int;
    began timestamptz := pg_catalog.clock_timestamp();
    not_whole_at_first bigint;
BEGIN
    PERFORM chatbot_sync.reembed_begin(skip_errors);
    LOOP
        SELECT * INTO step
        FROM chatbot_sync.reembed_batch(batch, last_chatbot_id, last_source_type, last_source_id) AS s;
        IF NOT FOUND THEN
            RAISE NOTICE 'no model is to follow: chatbot_set_model() names one';
            RETURN;
        END IF;
        IF NOT chatbot_sync.in_transaction_block() THEN
            COMMIT;
        END IF;
        IF step.taken OPERATOR(pg_catalog.>) 0 THEN
            not_whole_at_first := COALESCE(not_whole_at_first, step.not_whole OPERATOR(pg_catalog.+) step.taken);
            RAISE NOTICE '% of % sources, about % s to go', step.sources OPERATOR(pg_catalog.-) step.not_whole, step.sources,
                pg_catalog.ceil(EXTRACT(epoch FROM pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) began)
                    OPERATOR(pg_catalog.*) step.not_whole
                    OPERATOR(pg_catalog./) GREATEST(1, not_whole_at_first OPERATOR(pg_catalog.-) step.not_whole));
            last_chatbot_id := step.last_chatbot_id;
            last_source_type := step.last_source_type;
            last_source_id := step.last_source_id;
            CONTINUE;
        END IF;
        IF step.not_whole OPERATOR(pg_catalog.=) 0 THEN
            -- If the model in use has indexes, the new one gets them before it takes over: searches must not become
            -- slow.
            SELECT m.id INTO to_index FROM chatbot_sync.model AS m
            WHERE m.next AND m.dimensions OPERATOR(pg_catalog.<=) 4000
                AND EXISTS (SELECT FROM chatbot_sync.model AS a WHERE a.active AND a.indexed)
                AND EXISTS (SELECT FROM chatbot_sync.model_index AS i
                    WHERE i.model_id OPERATOR(pg_catalog.=) m.id AND NOT i.valid);
            IF FOUND THEN
                CALL @extschema@.chatbot_create_index(to_index, NOT chatbot_sync.in_transaction_block());
            END IF;
        END IF;
        -- A session that ran meanwhile may have left sources without vectors of the new model: begin again with the
        -- first source.
        IF step.not_whole OPERATOR(pg_catalog.=) 0 AND chatbot_sync.activate_next_model() THEN
            IF NOT chatbot_sync.in_transaction_block() THEN
                COMMIT;
            END IF;
            RETURN;
        END IF;
        IF NOT chatbot_sync.in_transaction_block() THEN
            COMMIT;
        END IF;
        IF last_chatbot_id IS NULL THEN
            -- Other sessions have locked the sources that are left.
            PERFORM pg_catalog.pg_sleep(0.1);
        END IF;
        last_chatbot_id := NULL;
        last_source_type := NULL;
        last_source_id := NULL;
    END LOOP;
END
$$;

CREATE OR REPLACE PROCEDURE chatbot_reembed(batch int DEFAULT 100)
LANGUAGE plpgsql
AS $$
BEGIN
    CALL @extschema@.chatbot_reembed(false, batch);
END
$$;

COMMENT ON PROCEDURE chatbot_reembed(boolean, int) IS 'As chatbot_reembed(batch); with skip_errors the model becomes active without the sources whose texts its provider refuses.';

COMMENT ON FUNCTION chatbot_sync.reembed_begin IS 'Forgets the sources that were refused before: the first step of chatbot_reembed().';

REVOKE ALL ON FUNCTION chatbot_sync.reembed_begin FROM PUBLIC;

REVOKE ALL ON PROCEDURE chatbot_reembed(boolean, int) FROM PUBLIC;

-- chatbot_doctor() has more checks, row-level security applies to searches and views, and a database can be switched
-- off.
DO $$
BEGIN
    IF pg_catalog.getdatabaseencoding() OPERATOR(pg_catalog.<>) 'UTF8' THEN
        RAISE feature_not_supported USING
            MESSAGE = pg_catalog.format('the encoding of this database is %s, expected UTF8', pg_catalog.getdatabaseencoding()),
            HINT = 'Make a database that has it: CREATE DATABASE ... ENCODING ''UTF8'' TEMPLATE template0; clients may go on with client_encoding as it is.';
    END IF;
END
$$;

CREATE FUNCTION chatbot_sync.is_enabled() RETURNS boolean
LANGUAGE c AS 'MODULE_PATHNAME', 'chatbot_sync_is_enabled_wrapper';

CREATE FUNCTION chatbot_sync.run_views_as_caller(yes boolean) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v name;
BEGIN
    IF current_setting('server_version_num')::int >= 150000 THEN
        FOREACH v IN ARRAY ARRAY['source_status', 'progress', 'stats'] LOOP
            EXECUTE format('ALTER VIEW chatbot_sync.%I SET (security_invoker = %L)', v, yes);
        END LOOP;
    END IF;
END
$$;

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

CREATE OR REPLACE FUNCTION chatbot_sync.run_functions_as_owner(yes boolean) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    f regprocedure;
BEGIN
    FOR f IN SELECT g FROM chatbot_sync.functions_of_level('app') AS g JOIN pg_proc AS p ON p.oid = g
        WHERE p.proname IN ('chatbot_search', 'chatbot_embed_source', 'chatbot_delete_source', 'chatbot_cleanup', 'chatbot_retry',
            'chatbot_enqueue_source', 'chatbot_session_open', 'chatbot_session_add_message', 'chatbot_session_messages', 'chatbot_session_close')
    LOOP
        EXECUTE format('ALTER FUNCTION %s %s', f, CASE WHEN yes THEN 'SECURITY DEFINER SET search_path = pg_catalog, pg_temp'
            ELSE 'SECURITY INVOKER RESET search_path' END);
    END LOOP;
    PERFORM chatbot_sync.run_views_as_caller(NOT yes);
END
$$;

CREATE OR REPLACE FUNCTION chatbot_sync.check_workers() RETURNS TABLE (check_name text, status text, detail text, hint text)
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

CREATE OR REPLACE FUNCTION chatbot_sync.check_backup() RETURNS TABLE (check_name text, status text, detail text, hint text)
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

SELECT chatbot_sync.run_views_as_caller(NOT chatbot_sync.is_distributed());

REVOKE ALL ON FUNCTION chatbot_sync.is_enabled, chatbot_sync.run_views_as_caller, chatbot_sync.check_database, chatbot_sync.check_roles, chatbot_sync.check_keys, chatbot_sync.check_triggers FROM PUBLIC;

COMMENT ON FUNCTION chatbot_sync.host_status IS 'Trigger of host tables with status columns: before a row is written, it writes the status that the row will have if all goes well, which RETURNING shows. A failure is written after the statement.';

COMMENT ON COLUMN chatbot_sync.host_table.status_column IS 'Has the status of each row when the statement that wrote it has ended. RETURNING of that statement shows what is expected, synced, whatever the provider answers.';

COMMENT ON FUNCTION chatbot_sync.check_database IS 'Checks of chatbot_doctor().';

COMMENT ON FUNCTION chatbot_sync.check_roles IS 'Checks of chatbot_doctor().';

COMMENT ON FUNCTION chatbot_sync.check_keys IS 'Checks of chatbot_doctor().';

COMMENT ON FUNCTION chatbot_sync.check_triggers IS 'Checks of chatbot_doctor().';

COMMENT ON FUNCTION chatbot_sync.is_enabled IS 'Whether this session may embed: chatbot_sync.enabled.';

COMMENT ON FUNCTION chatbot_sync.run_views_as_caller IS 'Applies policies on the tables to the caller of the views, or to their owner.';

-- The columns that the views read with the rights of the caller.
GRANT SELECT (chatbot_id, source_type, source_id, status, error, error_code, attempts, next_attempt_at, chunk_count, truncated, enabled,
    synced_at) ON chatbot_sync.source TO pg_monitor;

GRANT SELECT (chatbot_id, source_type, source_id, due_at, created_at, leased_by) ON chatbot_sync.job TO pg_monitor;

-- The language of a source. Rows of before have none: their words are found as they were, and are read anew by
-- CALL chatbot_sync_all(refresh => true), or when their text changes.
ALTER TABLE chatbot_sync.source ADD COLUMN lang text;
COMMENT ON COLUMN chatbot_sync.source.lang IS 'Its language: as its metadata says or as it was detected, und where that failed; of a translated source the most common one. NULL where chatbot_sync.text_search_config names a configuration.';

-- These call functions whose names are others now.
CREATE OR REPLACE FUNCTION chatbot_distribute(shard_count int DEFAULT NULL) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    said text := current_setting('client_min_messages');
    t name;
    moved bigint;
    e record;
    indexed int[];
BEGIN
    IF shard_count NOT BETWEEN 1 AND 64000 THEN
        RAISE invalid_parameter_value USING
            MESSAGE = format('shard_count is %s, expected 1 to 64000, or NULL', shard_count),
            HINT = 'NULL: what citus.shard_count says. It cannot be changed without chatbot_undistribute().';
    END IF;
    PERFORM chatbot_sync.require_citus();
    IF chatbot_sync.is_distributed() THEN
        RAISE object_not_in_prerequisite_state USING
            MESSAGE = 'the tables are distributed already', HINT = 'For another number of shards, SELECT chatbot_undistribute(); first.';
    END IF;
    indexed := chatbot_sync.save_and_drop_indexes();
    -- Before the tables, so that it can be seen from elsewhere. Citus makes extensions that it finds needed, but in this
    -- transaction.
    FOR e IN SELECT x.extname, x.extversion, n.nspname FROM pg_extension AS x JOIN pg_namespace AS n ON n.oid = x.extnamespace
        WHERE x.extname IN ('vector', 'chatbot_sync') ORDER BY x.extname DESC
    LOOP
        PERFORM chatbot_sync.run_on_nodes(format('DO $do$ BEGIN SET LOCAL citus.enable_ddl_propagation TO off;
            CREATE SCHEMA IF NOT EXISTS %1$I; CREATE EXTENSION IF NOT EXISTS %2$I SCHEMA %1$I VERSION %3$L; END $do$',
            e.nspname, e.extname, e.extversion));
    END LOOP;
    -- The rows of a child find their parents only if no two sessions of Citus write them.
    PERFORM set_config('citus.multi_shard_modify_mode', 'sequential', true);
    FOR t IN SELECT chatbot_sync.growing_tables() LOOP
        EXECUTE format('LOCK TABLE chatbot_sync.%I IN ACCESS EXCLUSIVE MODE', t);
    END LOOP;
    FOR t IN SELECT chatbot_sync.growing_tables() LOOP
        EXECUTE format('SELECT count(*) FROM chatbot_sync.%I', t) INTO moved;
        RAISE NOTICE 'chatbot_sync.%: % rows', t, moved;
        -- It says a lot, and what is to be done next, which is done here.
        PERFORM set_config('client_min_messages', 'warning', true);
        IF t = 'source' THEN
            PERFORM create_distributed_table('chatbot_sync.source', 'chatbot_id', colocate_with => 'none',
                shard_count => COALESCE(shard_count, current_setting('citus.shard_count')::int));
        ELSE
            PERFORM create_distributed_table(format('chatbot_sync.%I', t)::regclass, 'chatbot_id', colocate_with => 'chatbot_sync.source');
        END IF;
        PERFORM set_config('client_min_messages', said, true);
    END LOOP;
    PERFORM set_config('client_min_messages', 'warning', true);
    PERFORM truncate_local_data_after_distributing_table('chatbot_sync.source'),
        truncate_local_data_after_distributing_table('chatbot_sync.session');
    PERFORM set_config('client_min_messages', said, true);
    PERFORM chatbot_sync.grant_on_nodes(r) FROM chatbot_sync.roles_with_level() AS r;
    PERFORM chatbot_sync.run_functions_as_owner(true);
    -- With several connections to a node, a row that one has locked is waited for by another, for ever: the rows of a source
    -- and of its chunks are in several statements.
    EXECUTE format('ALTER DATABASE %I SET citus.max_adaptive_executor_pool_size = 1', current_database());
    RAISE NOTICE 'sessions that are open should connect anew: citus.max_adaptive_executor_pool_size is 1 from now on';
    PERFORM chatbot_sync.recreate_indexes(indexed);
    RAISE NOTICE 'distributed over % shards on % nodes',
        (SELECT count(*) FROM pg_dist_shard AS s WHERE s.logicalrelid = 'chatbot_sync.source'::regclass),
        (SELECT count(DISTINCT p.groupid) FROM pg_dist_shard AS s JOIN pg_dist_placement AS p USING (shardid)
            WHERE s.logicalrelid = 'chatbot_sync.source'::regclass);
END
$$;

CREATE OR REPLACE FUNCTION chatbot_undistribute() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    t name;
    relation regclass;
    moved bigint;
    indexed int[];
BEGIN
    PERFORM chatbot_sync.require_citus();
    IF NOT chatbot_sync.is_distributed() THEN
        RAISE object_not_in_prerequisite_state USING
            MESSAGE = 'the tables are not distributed', HINT = 'Nothing is to be done.';
    END IF;
    PERFORM set_config('citus.multi_shard_modify_mode', 'sequential', true);
    FOR t IN SELECT chatbot_sync.growing_tables() LOOP
        EXECUTE format('LOCK TABLE chatbot_sync.%I IN ACCESS EXCLUSIVE MODE', t);
    END LOOP;
    indexed := chatbot_sync.save_and_drop_indexes();
    -- undistribute_table() takes no table of an extension. The rows are put aside, the shards dropped as Citus drops those of
    -- a table that is dropped, and the rows come back.
    FOR t IN SELECT chatbot_sync.growing_tables() LOOP
        EXECUTE format('CREATE TEMP TABLE chatbot_sync_%1$s ON COMMIT DROP AS TABLE chatbot_sync.%1$I', t);
    END LOOP;
    FOR t IN SELECT n FROM chatbot_sync.growing_tables() WITH ORDINALITY AS g (n, place) ORDER BY place DESC LOOP
        relation := format('chatbot_sync.%I', t)::regclass;
        PERFORM master_remove_distributed_table_metadata_from_workers(relation, 'chatbot_sync', t);
        PERFORM citus_drop_all_shards(relation, 'chatbot_sync', t);
        PERFORM master_remove_partition_metadata(relation, 'chatbot_sync', t);
    END LOOP;
    FOR t IN SELECT chatbot_sync.growing_tables() LOOP
        EXECUTE format('INSERT INTO chatbot_sync.%1$I SELECT * FROM pg_temp.chatbot_sync_%1$s', t);
        GET DIAGNOSTICS moved = ROW_COUNT;
        RAISE NOTICE 'chatbot_sync.%: % rows', t, moved;
    END LOOP;
    PERFORM chatbot_sync.run_functions_as_owner(false);
    PERFORM chatbot_sync.recreate_indexes(indexed);
    EXECUTE format('ALTER DATABASE %I RESET citus.max_adaptive_executor_pool_size', current_database());
END
$$;

CREATE OR REPLACE FUNCTION chatbot_revoke(role_name name) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    f regprocedure;
    s name;
BEGIN
    IF role_name IS NULL THEN
        RAISE null_value_not_allowed USING MESSAGE = 'role_name is NULL', HINT = 'Name a role.';
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role_name) THEN
        RAISE undefined_object USING
            MESSAGE = format('role "%s" does not exist', role_name), HINT = 'Nothing is granted to PUBLIC.';
    END IF;
    FOR f IN SELECT chatbot_sync.functions_of_level('admin') LOOP
        EXECUTE format('REVOKE ALL ON ROUTINE %s FROM %I', f, role_name);
    END LOOP;
    EXECUTE format('REVOKE ALL ON ALL TABLES IN SCHEMA chatbot_sync FROM %I', role_name);
    EXECUTE format('REVOKE ALL ON ALL SEQUENCES IN SCHEMA chatbot_sync FROM %I', role_name);
    EXECUTE format('REVOKE ALL ON SCHEMA chatbot_sync FROM %I', role_name);
    FOR s IN SELECT chatbot_sync.schemas_of_functions() LOOP
        EXECUTE format('REVOKE USAGE ON SCHEMA %I FROM %I', s, role_name);
    END LOOP;
    PERFORM chatbot_sync.grant_on_nodes(role_name, 'REVOKE USAGE ON SCHEMA %I FROM %I');
END
$$;

CREATE OR REPLACE FUNCTION chatbot_grant(role_name name, level text DEFAULT 'app') RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    f regprocedure;
    s name;
BEGIN
    IF role_name IS NULL OR level IS NULL THEN
        RAISE null_value_not_allowed USING
            MESSAGE = format('%s is NULL', CASE WHEN role_name IS NULL THEN 'role_name' ELSE 'level' END),
            HINT = 'Name a role, and one of the levels app, read, admin.';
    END IF;
    IF level NOT IN ('app', 'read', 'admin') THEN
        RAISE invalid_parameter_value USING
            MESSAGE = format('level is "%s", expected one of app, read, admin', level),
            HINT = 'app: an application''s role; read: search and status; admin: an application''s role that also chooses the model.';
    END IF;
    -- The level is what the role has afterwards, not what is added.
    PERFORM @extschema@.chatbot_revoke(role_name);
    EXECUTE format('GRANT USAGE ON SCHEMA chatbot_sync TO %I', role_name);
    FOR s IN SELECT chatbot_sync.schemas_of_functions() LOOP
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', s, role_name);
    END LOOP;
    PERFORM chatbot_sync.grant_on_nodes(role_name);
    FOR f IN SELECT chatbot_sync.functions_of_level(level) LOOP
        EXECUTE format('GRANT EXECUTE ON ROUTINE %s TO %I', f, role_name);
    END LOOP;
    IF level = 'read' THEN
        EXECUTE format('GRANT SELECT ON chatbot_sync.source_type, chatbot_sync.source, chatbot_sync.embedding, chatbot_sync.model, chatbot_sync.sync_log, chatbot_sync.sync_total,
            chatbot_sync.model_index, chatbot_sync.host_table, chatbot_sync.progress, chatbot_sync.source_status, chatbot_sync.stats, chatbot_sync.job TO %I', role_name);
    ELSE
        -- An application's own backup reads all of it, and its restore writes all of it.
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA chatbot_sync TO %I', role_name);
        EXECUTE format('GRANT USAGE, SELECT, UPDATE ON ALL SEQUENCES IN SCHEMA chatbot_sync TO %I', role_name);
    END IF;
END
$$;

CREATE OR REPLACE FUNCTION chatbot_sync.after_update() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    granted record;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_event_trigger_ddl_commands() AS c WHERE c.object_type = 'extension' AND c.object_identity = 'chatbot_sync') THEN
        RETURN;
    END IF;
    FOR granted IN
        SELECT a.grantee AS role,
            CASE WHEN bool_or(p.proname = 'chatbot_set_model') THEN 'admin' WHEN bool_or(p.proname = 'chatbot_embed_source') THEN 'app' ELSE 'read' END AS level
        FROM chatbot_sync.functions_of_level('admin') AS f
        JOIN pg_proc AS p ON p.oid = f
        CROSS JOIN LATERAL aclexplode(p.proacl) AS a
        WHERE a.grantee <> p.proowner AND a.grantee <> 0
        GROUP BY a.grantee HAVING bool_or(p.proname = 'chatbot_search')
    LOOP
        PERFORM @extschema@.chatbot_grant((SELECT r.rolname FROM pg_roles AS r WHERE r.oid = granted.role), granted.level);
    END LOOP;
END
$$;

CREATE OR REPLACE PROCEDURE chatbot_process_queue(max_sources int DEFAULT NULL)
LANGUAGE plpgsql
AS $$
DECLARE
    left_over int := max_sources;
    claimed int;
    more boolean;
BEGIN
    IF max_sources OPERATOR(pg_catalog.<) 1 THEN
        RAISE invalid_parameter_value USING
            MESSAGE = pg_catalog.format('max_sources is %s, expected 1 or more, or NULL', max_sources),
            HINT = 'NULL: as many as there are.';
    END IF;
    WHILE left_over IS NULL OR left_over OPERATOR(pg_catalog.>) 0 LOOP
        claimed := chatbot_sync.queue_claim(left_over);
        -- Where the caller said BEGIN it is for the caller to commit.
        IF NOT chatbot_sync.in_transaction_block() THEN
            COMMIT;
        END IF;
        EXIT WHEN claimed OPERATOR(pg_catalog.=) 0;
        left_over := left_over OPERATOR(pg_catalog.-) claimed;
        PERFORM chatbot_sync.queue_embed();
        PERFORM chatbot_sync.queue_store();
        IF NOT chatbot_sync.in_transaction_block() THEN
            COMMIT;
        END IF;
        PERFORM chatbot_sync.queue_write_status();
        IF NOT chatbot_sync.in_transaction_block() THEN
            COMMIT;
        END IF;
    END LOOP;
    LOOP
        more := chatbot_sync.purge_log();
        IF NOT chatbot_sync.in_transaction_block() THEN
            COMMIT;
        END IF;
        EXIT WHEN NOT more;
    END LOOP;
END
$$;

-- Models in folders

CREATE FUNCTION chatbot_sync.drop_model_file(model_id int) RETURNS void
LANGUAGE c SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'chatbot_sync_drop_model_file_wrapper';

CREATE FUNCTION chatbot_sync.check_local_models()
RETURNS TABLE (check_name text, status text, detail text, hint text)
LANGUAGE c AS 'MODULE_PATHNAME', 'chatbot_sync_check_local_models_wrapper';

COMMENT ON COLUMN chatbot_sync.source.error_code IS 'The SQLSTATE of the last failure. On a synced source: why its row refused its status; or 01000, a warning that error explains, as where a chunk that is longer than the model takes was embedded in parts.';

CREATE FUNCTION chatbot_sync.model_languages(provider text, model text) RETURNS text[]
LANGUAGE c AS 'MODULE_PATHNAME', 'chatbot_sync_model_languages_wrapper';

REVOKE ALL ON FUNCTION chatbot_sync.model_languages FROM PUBLIC;

COMMENT ON FUNCTION chatbot_sync.model_languages IS 'The languages that a built-in model knows, by their ISO 639-1 codes; NULL for other models.';

REVOKE ALL ON FUNCTION chatbot_sync.drop_model_file, chatbot_sync.check_local_models FROM PUBLIC;

COMMENT ON FUNCTION chatbot_sync.drop_model_file IS 'Removes the imported file of a model in a folder: a step of chatbot_drop_model().';

COMMENT ON FUNCTION chatbot_sync.check_local_models IS 'Checks of chatbot_doctor().';

-- Kinds of source besides document and link.
CREATE TABLE chatbot_sync.source_type (
    name            text PRIMARY KEY
);

INSERT INTO chatbot_sync.source_type (name) VALUES ('document'), ('link');

SELECT pg_catalog.pg_extension_config_dump('chatbot_sync.source_type', 'WHERE name NOT IN (''document'', ''link'')');

-- Citus takes a constraint from its nodes too, where this script runs as well.
ALTER TABLE chatbot_sync.source DROP CONSTRAINT IF EXISTS source_source_type_check;

ALTER TABLE chatbot_sync.job DROP CONSTRAINT IF EXISTS job_source_type_check;

CREATE FUNCTION chatbot_add_source_type(name text) RETURNS boolean
LANGUAGE c SECURITY DEFINER SET search_path TO pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'chatbot_add_source_type_wrapper';

CREATE FUNCTION chatbot_drop_source_type(name text) RETURNS void
LANGUAGE c SECURITY DEFINER SET search_path TO pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'chatbot_drop_source_type_wrapper';

REVOKE ALL ON FUNCTION chatbot_add_source_type, chatbot_drop_source_type FROM PUBLIC;

COMMENT ON TABLE chatbot_sync.source_type IS 'The kinds of source. document and link are there from the start; chatbot_add_source_type() adds others.';

COMMENT ON TABLE chatbot_sync.source IS 'One row for each source, as a document or a link, that a chatbot knows.';

COMMENT ON COLUMN chatbot_sync.source.source_type IS 'Its kind, one of chatbot_sync.source_type.';

COMMENT ON FUNCTION chatbot_add_source_type IS 'Adds a kind of source; returns false where it is there already.';

COMMENT ON FUNCTION chatbot_drop_source_type IS 'Drops a kind that no attached table, source or job is of.';

-- Conditions, titles, several content columns, and a constant chatbot.
DROP FUNCTION chatbot_attach(regclass, text, name, name, name, name[], name, name, name, name, text, text, text);

CREATE FUNCTION chatbot_attach(relation regclass, source_type text, id_column name DEFAULT 'id', chatbot_column name DEFAULT 'chatbot_id',
    content_column name DEFAULT 'content', metadata_columns name[] DEFAULT '{}', enabled_column name DEFAULT NULL,
    status_column name DEFAULT NULL, processed_column name DEFAULT NULL, error_column name DEFAULT NULL, mode text DEFAULT 'sync',
    on_error text DEFAULT 'mark', content_format text DEFAULT 'text', title_column name DEFAULT NULL, content_columns name[] DEFAULT NULL,
    condition text DEFAULT NULL, chatbot_id bigint DEFAULT NULL, content_formats text[] DEFAULT NULL) RETURNS void
LANGUAGE c SET search_path TO pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'chatbot_attach_with_condition_wrapper';

DROP FUNCTION chatbot_detach(regclass, boolean);

CREATE FUNCTION chatbot_detach(relation regclass, delete_embeddings boolean DEFAULT false, chatbot_id bigint DEFAULT NULL) RETURNS void
LANGUAGE c SET search_path TO pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'chatbot_detach_from_chatbot_wrapper';

REVOKE ALL ON FUNCTION chatbot_attach, chatbot_detach FROM PUBLIC;

CREATE OR REPLACE VIEW chatbot_sync.host_table AS
    SELECT (a.options ->> 'host')::int AS host,
        t.tgrelid::regclass AS relation,
        a.options ->> 'source_type' AS source_type,
        a.options #>> '{columns,id,0}' AS id_column,
        a.options #>> '{columns,chatbot,0}' AS chatbot_column,
        CASE WHEN pg_catalog.jsonb_typeof(a.options #> '{columns,content,0}') = 'string'
            THEN a.options #>> '{columns,content,0}' END AS content_column,
        ARRAY(SELECT m ->> 0 FROM pg_catalog.jsonb_array_elements(a.options #> '{columns,metadata}') AS m) AS metadata_columns,
        a.options #>> '{columns,enabled,0}' AS enabled_column,
        a.options #>> '{columns,status,0}' AS status_column,
        a.options #>> '{columns,processed,0}' AS processed_column,
        a.options #>> '{columns,error,0}' AS error_column,
        a.options ->> 'mode' AS mode,
        a.options ->> 'on_error' AS on_error,
        a.options ->> 'content_format' AS content_format,
        a.options #>> '{columns,title,0}' AS title_column,
        CASE WHEN pg_catalog.jsonb_typeof(a.options #> '{columns,content,0}') = 'array'
            THEN ARRAY(SELECT c ->> 0 FROM pg_catalog.jsonb_array_elements(a.options #> '{columns,content}') AS c) END AS content_columns,
        a.options #>> '{condition,sql}' AS condition,
        (a.options ->> 'chatbot_id')::bigint AS chatbot_id
    FROM pg_catalog.pg_trigger t
    CROSS JOIN LATERAL (SELECT (pg_catalog.convert_from(
        pg_catalog.substring(t.tgargs, 1, pg_catalog.length(t.tgargs) - 1), pg_catalog.getdatabaseencoding()))::jsonb AS options) AS a
    WHERE t.tgfoid = 'chatbot_sync.host_changed'::regproc AND t.tgnargs = 1 AND NOT t.tgisinternal
        AND t.tgname = pg_catalog.format('chatbot_sync_%s_insert', a.options ->> 'host') AND NOT (a.options ->> 'partition')::boolean;

COMMENT ON FUNCTION chatbot_attach IS 'Makes the rows of a table sources: from then on, the statements that write them embed them, or in mode async queue them.';

COMMENT ON FUNCTION chatbot_detach IS 'Detaches a table, from all chatbots or from one: its rows are no sources any more.';

COMMENT ON COLUMN chatbot_sync.source.content_hash IS 'sha256(convert_to(content, ''UTF8'')) of what the vectors were made from, where there are several content columns of all of them; then eight bytes for the title, where there is one.';

COMMENT ON COLUMN chatbot_sync.embedding.metadata IS 'The metadata of the source; of a translated source with lang, and with the title in that language.';

COMMENT ON COLUMN chatbot_sync.embedding.words IS 'The words of the title and of the text, for searches by words.';

COMMENT ON COLUMN chatbot_sync.host_table.condition IS 'The condition that a row has to fulfil to be found, as Postgres writes it.';

COMMENT ON COLUMN chatbot_sync.host_table.chatbot_id IS 'The chatbot that all rows belong to; NULL where chatbot_column has it.';

-- Vectors in half precision, in a column of their own, and how many rows share a page.
DROP FUNCTION chatbot_sync.set_vector_storage(boolean);

-- Changes the table of chunks. Citus does not pass such changes on to its shards.
CREATE FUNCTION chatbot_sync.alter_chunks(change text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    failed text;
    propagates text;
BEGIN
    IF chatbot_sync.is_distributed() THEN
        -- A shard that this transaction has written to cannot be waited for.
        SELECT s.result INTO failed FROM run_command_on_shards('chatbot_sync.embedding',
            format('DO $do$ BEGIN SET LOCAL lock_timeout = ''10s''; ALTER TABLE %%s %s; END $do$', change)) AS s
        WHERE NOT s.success LIMIT 1;
        IF failed IS NOT NULL THEN
            RAISE object_in_use USING MESSAGE = format('a shard could not be altered: %s', failed),
                HINT = 'Do it in a transaction of its own, while nobody embeds.';
        END IF;
        propagates := current_setting('citus.enable_ddl_propagation');
        PERFORM set_config('citus.enable_ddl_propagation', 'off', true);
    END IF;
    EXECUTE 'ALTER TABLE chatbot_sync.embedding ' || change;
    IF propagates IS NOT NULL THEN
        PERFORM set_config('citus.enable_ddl_propagation', propagates, true);
    END IF;
END
$$;

-- Stores vectors in the row itself or, where they would not fit into a page, in the TOAST table. Texts and words leave a row
-- that would be longer than row_bytes: the number of rows that share a page depends on the length of vectors. Locks the table
-- only where something changes.
CREATE FUNCTION chatbot_sync.set_row_layout(in_line boolean, row_bytes int) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    changes text;
BEGIN
    SELECT string_agg(format('ALTER COLUMN %I SET STORAGE %s', a.attname, CASE WHEN in_line THEN 'PLAIN' ELSE 'EXTERNAL' END), ', ')
    INTO changes FROM pg_attribute AS a
    WHERE a.attrelid = 'chatbot_sync.embedding'::regclass AND a.attname IN ('embedding', 'embedding_half')
        AND a.attstorage <> CASE WHEN in_line THEN 'p' ELSE 'e' END;
    IF format('toast_tuple_target=%s', row_bytes) <> ALL (COALESCE(
        (SELECT c.reloptions FROM pg_class AS c WHERE c.oid = 'chatbot_sync.embedding'::regclass), '{toast_tuple_target=2032}'))
    THEN
        changes := concat_ws(', ', changes, format('SET (toast_tuple_target = %s)', row_bytes));
    END IF;
    IF changes IS NOT NULL THEN
        PERFORM chatbot_sync.alter_chunks(changes);
    END IF;
END
$$;

-- Adds the column of vectors in half precision, which needs pgvector 0.7 or later; returns whether it is there.
CREATE FUNCTION chatbot_sync.add_half_column() RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    half regtype;
    storage "char";
BEGIN
    IF EXISTS (SELECT FROM pg_attribute AS a
        WHERE a.attrelid = 'chatbot_sync.embedding'::regclass AND a.attname = 'embedding_half' AND NOT a.attisdropped)
    THEN
        RETURN true;
    END IF;
    SELECT t.oid INTO half FROM pg_extension AS e
    JOIN pg_depend AS d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.classid = 'pg_type'::regclass
        AND d.deptype = 'e'
    JOIN pg_type AS t ON t.oid = d.objid
    WHERE e.extname = 'vector' AND t.typname = 'halfvec';
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    SELECT a.attstorage INTO storage FROM pg_attribute AS a
    WHERE a.attrelid = 'chatbot_sync.embedding'::regclass AND a.attname = 'embedding';
    EXECUTE format('ALTER TABLE chatbot_sync.embedding ADD COLUMN embedding_half %s', half);
    EXECUTE 'ALTER TABLE chatbot_sync.embedding ALTER COLUMN embedding DROP NOT NULL';
    PERFORM chatbot_sync.alter_chunks(format('ALTER COLUMN embedding_half SET STORAGE %s',
        CASE WHEN storage = 'p' THEN 'PLAIN' ELSE 'EXTERNAL' END));
    COMMENT ON COLUMN chatbot_sync.embedding.embedding IS 'The vector; NULL where it is stored in half precision.';
    COMMENT ON COLUMN chatbot_sync.embedding.embedding_half IS 'The vector in half precision, of a model with the option storage half.';
    RETURN true;
END
$$;

SELECT chatbot_sync.add_half_column();

-- A text of a thousand characters is too short for pglz to make it smaller.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_catalog.pg_settings AS s WHERE s.name OPERATOR(pg_catalog.=) 'default_toast_compression'
        AND 'lz4' OPERATOR(pg_catalog.=) ANY (s.enumvals))
    THEN
        PERFORM chatbot_sync.alter_chunks('ALTER COLUMN content SET COMPRESSION lz4, ALTER COLUMN words SET COMPRESSION lz4');
    END IF;
END
$$;

REVOKE ALL ON FUNCTION chatbot_sync.alter_chunks, chatbot_sync.set_row_layout, chatbot_sync.add_half_column FROM PUBLIC;

COMMENT ON FUNCTION chatbot_sync.alter_chunks IS 'Changes the table of chunks, and its shards.';
COMMENT ON FUNCTION chatbot_sync.set_row_layout IS 'Chooses where vectors and texts are stored, by the length of vectors.';
COMMENT ON FUNCTION chatbot_sync.add_half_column IS 'Adds the column of vectors in half precision, where pgvector has the type.';

-- What an index has of each vector.
ALTER TABLE chatbot_sync.model ADD COLUMN quantization text;

CREATE OR REPLACE VIEW chatbot_sync.model_index AS
    SELECT m.id AS model_id, k.kind, k.name, m.indexed AS wanted,
        i.indexrelid IS NOT NULL AS present, COALESCE(i.indisvalid, false) AS valid,
        CASE WHEN i.indisvalid AND NOT chatbot_sync.is_distributed() THEN c.reltuples END AS chunks,
        CASE WHEN NOT chatbot_sync.is_distributed() THEN pg_catalog.pg_relation_size(i.indexrelid) END AS bytes
    FROM chatbot_sync.model m
    CROSS JOIN LATERAL (SELECT v.kind, pg_catalog.format('embedding_%s_%s',
            CASE WHEN v.kind = 'hnsw' AND m.quantization IN ('half', 'binary') THEN 'hnsw_' || m.quantization ELSE v.kind END, m.id) AS name
        FROM (VALUES ('words'), ('hnsw')) AS v (kind)) AS k
    LEFT JOIN (pg_catalog.pg_class c JOIN pg_catalog.pg_index i ON i.indexrelid = c.oid)
        ON c.relname = k.name AND i.indrelid = 'chatbot_sync.embedding'::pg_catalog.regclass;

-- Whether pgvector has halves and bits: with 0.7 or later.
CREATE FUNCTION chatbot_sync.has_half_type() RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT EXISTS (SELECT FROM pg_extension AS e
        JOIN pg_depend AS d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.classid = 'pg_type'::regclass
            AND d.deptype = 'e'
        JOIN pg_type AS t ON t.oid = d.objid
        WHERE e.extname = 'vector' AND t.typname = 'halfvec')
$$;

-- The share of the ten nearest chunks that are among the 40 nearest by bits: of 20 chunks, each compared with the first 2000.
-- NULL where there are fewer than 1000. Bits tell vectors apart whose dimensions are positive as often as negative, which is not
-- so of every model.
CREATE FUNCTION chatbot_sync.measure_recall_of_bits(model_id int) RETURNS real
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    recall real;
BEGIN
    EXECUTE (SELECT format(
        'WITH sample AS MATERIALIZED (
            SELECT row_number() OVER () AS n, v.vector, %1$s.binary_quantize(v.vector) AS bits
            FROM (SELECT e.%2$I AS vector FROM chatbot_sync.embedding AS e WHERE e.model_id = $1 AND e.%2$I IS NOT NULL LIMIT 2000) AS v
        )
        SELECT avg((
            SELECT count(*) FROM (
                SELECT s.n FROM sample AS s ORDER BY s.vector OPERATOR(%1$s.<=>) q.vector LIMIT 10
            ) AS near
            WHERE near.n = ANY (ARRAY(SELECT s.n FROM sample AS s ORDER BY s.bits OPERATOR(%1$s.<~>) q.bits LIMIT 40))
        )) / 10
        FROM (SELECT * FROM sample ORDER BY n %% 97, n LIMIT 20) AS q
        HAVING (SELECT count(*) FROM sample) >= 1000',
        x.extnamespace::regnamespace, CASE WHEN m.options ->> 'storage' = 'half' THEN 'embedding_half' ELSE 'embedding' END)
        FROM pg_extension AS x, chatbot_sync.model AS m WHERE x.extname = 'vector' AND m.id = measure_recall_of_bits.model_id)
    INTO recall USING model_id;
    RETURN recall;
END
$$;

-- The quantization of a model's index where none is asked for: that of its last index or, where it has none, bits from 768
-- dimensions on where they find .98 of the nearest chunks, and else halves.
CREATE FUNCTION chatbot_sync.default_quantization(model_id int) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    m record;
BEGIN
    SELECT * INTO m FROM chatbot_sync.model AS x WHERE x.id = model_id;
    RETURN CASE
        WHEN m.quantization IS NOT NULL THEN m.quantization
        WHEN NOT chatbot_sync.has_half_type() OR m.indexed THEN 'none'
        WHEN m.dimensions >= 768 AND chatbot_sync.measure_recall_of_bits(m.id) >= 0.98 THEN 'binary'
        WHEN m.options ->> 'storage' = 'half' OR m.dimensions > 2000 THEN 'none'
        ELSE 'half'
    END;
END
$$;

-- Bytes of an HNSW index for each chunk: its vector, 330 for its neighbours and headers, and what of a page stays empty.
CREATE FUNCTION chatbot_sync.index_bytes(quantization text, dimensions int, storage text) RETURNS numeric
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT greatest(v.bytes + 330, CASE WHEN v.bytes + 84 > 8160 THEN 8192 ELSE round(8192.0 / (8160 / (v.bytes + 84))) END)
    FROM (SELECT CASE
        WHEN quantization = 'binary' THEN 8 + (dimensions + 7) / 8
        WHEN quantization = 'half' OR storage = 'half' OR dimensions > 2000 THEN 8 + 2 * dimensions
        ELSE 8 + 4 * dimensions END AS bytes) AS v
$$;

-- What chatbot_doctor() says of the memory of the active model's index, in each form that it may have.
CREATE FUNCTION chatbot_sync.check_index_memory() RETURNS TABLE (check_name text, status text, detail text, hint text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    m record;
    chunks bigint;
    said text;
BEGIN
    SELECT * INTO m FROM chatbot_sync.model AS x WHERE x.active;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    SELECT sum(s.chunk_count) INTO chunks FROM chatbot_sync.source AS s;
    -- An index of fewer chunks fits into any machine's memory.
    IF NOT m.indexed AND COALESCE(chunks, 0) < 100000 THEN
        RETURN;
    END IF;
    SELECT string_agg(format('%s %s', f.form, pg_size_pretty(
        (chunks * chatbot_sync.index_bytes(f.form, m.dimensions, m.options ->> 'storage'))::bigint)), ', ' ORDER BY f.place)
    INTO said
    FROM (VALUES (1, 'none', 4000), (2, 'half', 4000), (3, 'binary', 16000)) AS f (place, form, most)
    WHERE m.dimensions <= f.most AND (f.form = 'none' OR chatbot_sync.has_half_type());
    RETURN QUERY SELECT 'index memory', 'ok',
        format('HNSW over %s chunks by quantization: %s; %s', chunks, said,
            CASE WHEN m.indexed THEN format('there is %s', COALESCE(m.quantization, 'none'))
                ELSE format('the default is %s', chatbot_sync.default_quantization(m.id)) END),
        NULL::text;
END
$$;

DROP FUNCTION chatbot_sync.record_wanted_index(int);

-- Records which index a model should have, and returns the model's id.
CREATE FUNCTION chatbot_sync.record_wanted_index(model_id int, quantization text DEFAULT NULL) RETURNS int
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    m record;
    form text;
    most int;
BEGIN
    SELECT * INTO m FROM chatbot_sync.model AS x WHERE x.id = model_id OR model_id IS NULL AND x.active;
    IF NOT FOUND THEN
        RAISE invalid_parameter_value USING
            MESSAGE = format('model_id is %s, expected the id of a model', COALESCE(model_id::text, 'NULL and nothing was embedded yet')),
            HINT = 'Models and their ids: TABLE chatbot_sync.model;';
    END IF;
    IF quantization NOT IN ('none', 'half', 'binary') THEN
        RAISE invalid_parameter_value USING
            MESSAGE = format('quantization is "%s", expected one of none, half, binary', quantization),
            HINT = 'NULL: what the number of dimensions speaks for.';
    END IF;
    form := COALESCE(quantization, chatbot_sync.default_quantization(m.id));
    IF form <> 'none' AND NOT chatbot_sync.has_half_type() THEN
        RAISE feature_not_supported USING
            MESSAGE = format('this pgvector has no index with quantization %s', form),
            HINT = 'Install pgvector 0.7 or later, then ALTER EXTENSION vector UPDATE;';
    END IF;
    most := CASE form WHEN 'binary' THEN 16000 ELSE 4000 END;
    IF m.dimensions > most THEN
        RAISE program_limit_exceeded USING
            MESSAGE = format('model %s has %s dimensions, the limit of an index is %s', m.id, m.dimensions, most),
            HINT = 'CALL chatbot_create_index(quantization => ''binary''); or choose a model, or dimensions, that are shorter: chatbot_set_model().';
    END IF;
    -- Vectors that are stored as halves are indexed as they are, and longer ones as halves.
    IF form = 'half' AND (m.options ->> 'storage' = 'half' OR m.dimensions > 2000) THEN
        form := 'none';
    END IF;
    UPDATE chatbot_sync.model AS x SET indexed = true, index_error = NULL, quantization = form WHERE x.id = m.id;
    RETURN m.id;
END
$$;

DROP PROCEDURE chatbot_create_index(int, boolean);

CREATE PROCEDURE chatbot_create_index(model_id int DEFAULT NULL, concurrent boolean DEFAULT true, quantization text DEFAULT NULL)
LANGUAGE plpgsql
AS $$
DECLARE
    wanted int;
    said text;
    doing text;
BEGIN
    IF concurrent IS NULL THEN
        RAISE null_value_not_allowed USING MESSAGE = 'concurrent is NULL', HINT = 'true, or false where nobody writes meanwhile.';
    END IF;
    IF concurrent AND chatbot_sync.in_transaction_block() THEN
        RAISE active_sql_transaction USING
            MESSAGE = 'an index cannot be made concurrently inside a transaction block',
            HINT = 'Without BEGIN; or CALL chatbot_create_index(concurrent => false); and nobody writes vectors meanwhile.';
    END IF;
    wanted := chatbot_sync.record_wanted_index(model_id, quantization);
    IF NOT concurrent THEN
        PERFORM chatbot_sync.build_indexes(wanted);
        RETURN;
    END IF;
    COMMIT;
    PERFORM chatbot_sync.start_index_build(wanted);
    LOOP
        COMMIT;
        doing := chatbot_sync.wait_for_index_build();
        EXIT WHEN doing IS NULL;
        IF said IS NULL OR said OPERATOR(pg_catalog.<>) doing THEN
            RAISE NOTICE '%', doing;
        END IF;
        said := doing;
    END LOOP;
END
$$;

CREATE OR REPLACE FUNCTION chatbot_drop_index(model_id int DEFAULT NULL) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    m int;
    n name;
    found_model boolean := false;
BEGIN
    FOR m IN
        SELECT x.id FROM chatbot_sync.model AS x
        WHERE x.id = chatbot_drop_index.model_id OR chatbot_drop_index.model_id IS NULL AND x.active
    LOOP
        FOR n IN
            SELECT c.relname FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
            WHERE i.indrelid = 'chatbot_sync.embedding'::regclass
                AND c.relname IN (format('embedding_words_%s', m), format('embedding_hnsw_%s', m), format('embedding_hnsw_half_%s', m),
                    format('embedding_hnsw_binary_%s', m))
        LOOP
            EXECUTE format('DROP INDEX chatbot_sync.%I', n);
        END LOOP;
        UPDATE chatbot_sync.model AS x SET indexed = false, index_error = NULL WHERE x.id = m AND x.indexed;
        found_model := true;
    END LOOP;
    IF NOT found_model AND model_id IS NOT NULL THEN
        RAISE invalid_parameter_value USING
            MESSAGE = format('model_id is %s, expected the id of a model', model_id),
            HINT = 'Models and their ids: TABLE chatbot_sync.model;';
    END IF;
END
$$;

REVOKE ALL ON FUNCTION chatbot_sync.has_half_type, chatbot_sync.measure_recall_of_bits, chatbot_sync.default_quantization, chatbot_sync.index_bytes,
    chatbot_sync.check_index_memory, chatbot_sync.record_wanted_index FROM PUBLIC;
REVOKE ALL ON PROCEDURE chatbot_create_index FROM PUBLIC;

COMMENT ON FUNCTION chatbot_sync.measure_recall_of_bits IS 'Measures the share of the nearest chunks that bits find, in a sample.';
COMMENT ON FUNCTION chatbot_sync.default_quantization IS 'Returns the quantization of a model''s index where none is asked for.';
COMMENT ON FUNCTION chatbot_sync.has_half_type IS 'Whether pgvector has vectors of halves and of bits.';
COMMENT ON FUNCTION chatbot_sync.index_bytes IS 'Estimates the bytes that an HNSW index takes for each chunk.';
COMMENT ON FUNCTION chatbot_sync.check_index_memory IS 'Checks of chatbot_doctor().';
COMMENT ON COLUMN chatbot_sync.model.quantization IS 'The form of its index of vectors: none (whole vectors), half or binary; NULL where no index was built since there is a choice.';
COMMENT ON PROCEDURE chatbot_create_index IS 'Builds the indexes that searches of large chatbots use, while other sessions read and write.';
COMMENT ON FUNCTION chatbot_sync.record_wanted_index IS 'Records which index a model should have: the first step of chatbot_create_index().';

-- Figures of models: what words count for in hybrid searches, which was 0.4 for all, and how fast they are.
ALTER TABLE chatbot_sync.model
    ADD COLUMN text_weight real NOT NULL DEFAULT 0.4 CHECK (text_weight BETWEEN 0 AND 1),
    ADD COLUMN bytes_per_second real;

COMMENT ON COLUMN chatbot_sync.model.text_weight IS 'What words count for in a hybrid search, from 0 to 1; similarity counts for the rest. It is chosen with the model, as measured for it, and may be updated.';

COMMENT ON COLUMN chatbot_sync.model.bytes_per_second IS 'How fast one session of this server has turned texts into stored vectors, as bytes of text: a moving figure of workers, chatbot_sync_all(), chatbot_process_queue() and chatbot_reembed(). NULL where none has done much yet.';

DROP FUNCTION chatbot_estimate(regclass);

CREATE FUNCTION chatbot_estimate(relation regclass DEFAULT NULL)
RETURNS TABLE (sources bigint, chunks bigint, chunks_to_embed bigint, tokens bigint, seconds double precision)
LANGUAGE c SECURITY DEFINER SET search_path TO pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'chatbot_estimate_with_seconds_wrapper';

REVOKE ALL ON FUNCTION chatbot_estimate FROM PUBLIC;

COMMENT ON FUNCTION chatbot_estimate IS 'Estimates what a sync, or a change of the model, would send to the provider, and how long it would take; sends nothing.';

-- Comments that say what an object does or has.
COMMENT ON TABLE chatbot_sync.model IS 'The models that vectors are made with: provider, model, dimensions and prefixes. One is active.';
COMMENT ON COLUMN chatbot_sync.model.index_error IS 'Why its indexes could not be built.';
COMMENT ON COLUMN chatbot_sync.source.next_attempt_at IS 'When it is tried again; NULL where it is not tried again by itself.';
COMMENT ON COLUMN chatbot_sync.source.truncated IS 'Whether the content has more than chatbot_sync.max_chunks chunks, so that the rest is not searched.';
COMMENT ON COLUMN chatbot_sync.source.host IS 'The host table that it comes from, as in chatbot_sync.host_table; NULL where chatbot_embed_source() or chatbot_enqueue_source() stored it.';
COMMENT ON TABLE chatbot_sync.embedding IS 'One row for each chunk and model: the text, its place in the source, and its vector.';
COMMENT ON COLUMN chatbot_sync.embedding.chunk_id IS 'The number of the chunk, which stays the same when an edit before the chunk moves it.';
COMMENT ON TABLE chatbot_sync.sync_log IS 'One row for each sync that chunked a text, also for those that failed, kept for chatbot_sync.log_retention. Nothing depends on it.';
COMMENT ON COLUMN chatbot_sync.sync_log.error_code IS 'The SQLSTATE that the sync failed with; NULL where it succeeded.';
COMMENT ON COLUMN chatbot_sync.sync_log.embedded IS 'The number of these chunks that were embedded; the others kept their vectors.';
COMMENT ON COLUMN chatbot_sync.sync_log.inputs IS 'Texts in these requests.';
COMMENT ON COLUMN chatbot_sync.sync_log.tokens IS 'Tokens as the provider counts them; 0 where it does not say.';
COMMENT ON COLUMN chatbot_sync.sync_log.chunking_ms IS 'Milliseconds for chunking the text and comparing the chunks with those that are stored.';
COMMENT ON COLUMN chatbot_sync.sync_log.embedding_ms IS 'Milliseconds until its last vector had arrived. Sources of one statement wait together.';
COMMENT ON TABLE chatbot_sync.sync_total IS 'Sums of the rows that were deleted from chatbot_sync.sync_log.';
COMMENT ON TABLE chatbot_sync.message IS 'The messages of sessions.';
COMMENT ON FUNCTION chatbot_delete_source IS 'Deletes a source with its vectors and jobs.';
COMMENT ON FUNCTION chatbot_cleanup IS 'Deletes the sources, vectors, jobs and sessions of a chatbot.';
COMMENT ON FUNCTION chatbot_embed IS 'Returns the vector of a text, as a document or as a query.';
COMMENT ON FUNCTION chatbot_chunk IS 'Returns the chunks that a text would be cut into.';
COMMENT ON FUNCTION chatbot_search IS 'Returns the chunks of a chatbot that match a query best, by meaning, by words, or both.';
COMMENT ON FUNCTION chatbot_session_messages IS 'Returns the messages of a conversation, oldest first; with max_messages the latest ones.';
COMMENT ON FUNCTION chatbot_session_close IS 'Closes a conversation; returns false where it is closed already, or there is none.';
COMMENT ON FUNCTION chatbot_revoke IS 'Takes back from a role what chatbot_grant() gave it.';
COMMENT ON FUNCTION chatbot_sync.functions_of_level IS 'Returns the functions that a level of chatbot_grant() may call.';
COMMENT ON FUNCTION chatbot_sync.schemas_of_functions IS 'Returns the schemas that chatbot_grant() has to let a role use.';
COMMENT ON FUNCTION chatbot_attach_chatbots IS 'Attaches a table of chatbots: deleting one of its rows deletes everything that belongs to the chatbot.';
COMMENT ON FUNCTION chatbot_sync.host_changed IS 'Trigger of host tables: syncs or queues the sources of the rows that a statement wrote.';
COMMENT ON FUNCTION chatbot_sync.host_truncated IS 'Trigger of host tables: TRUNCATE deletes the sources of the rows.';
COMMENT ON FUNCTION chatbot_sync.chatbots_deleted IS 'Trigger of tables of chatbots: deletes everything that belongs to the chatbots whose rows a statement deleted.';
COMMENT ON FUNCTION chatbot_sync.follow_alter_table IS 'Follows ALTER TABLE of a host table: renamed and dropped columns, new partitions, rows whose values changed.';
COMMENT ON FUNCTION chatbot_sync.delete_sources_of_dropped_tables IS 'Deletes the sources of host tables that were dropped.';
COMMENT ON FUNCTION chatbot_sync.register_existing_rows IS 'Registers the rows of host tables that are no sources yet as pending ones.';
COMMENT ON FUNCTION chatbot_sync.sync_batch IS 'Syncs one batch of sources: a step of chatbot_sync_all().';
COMMENT ON FUNCTION chatbot_sync.count_pending IS 'Counts the sources that are to be synced: a step of chatbot_sync_all().';
COMMENT ON FUNCTION chatbot_sync.in_transaction_block IS 'Whether a procedure cannot commit, since it was called after BEGIN or by a function.';
COMMENT ON FUNCTION chatbot_sync.after_ddl IS 'Follows CREATE and ALTER of host tables, of their triggers and of their types.';
COMMENT ON FUNCTION chatbot_sync.after_drop IS 'Follows DROP of host tables, of their columns, of the table of chatbots and of text search configurations.';
COMMENT ON EVENT TRIGGER chatbot_sync_drop IS 'Follows DROP of host tables, of their columns, of the table of chatbots and of text search configurations.';
COMMENT ON FUNCTION chatbot_enqueue_source IS 'Queues the content of a source for a worker to embed; returns the id of the job.';
COMMENT ON FUNCTION chatbot_retry IS 'Makes sources in error pending again; returns how many.';
COMMENT ON PROCEDURE chatbot_process_queue IS 'Embeds the sources of the queue that are due, in this session.';
COMMENT ON FUNCTION chatbot_sync.queue_claim IS 'Claims sources that are due: a step of chatbot_process_queue().';
COMMENT ON FUNCTION chatbot_sync.queue_embed IS 'Embeds the claimed sources: a step of chatbot_process_queue().';
COMMENT ON FUNCTION chatbot_sync.queue_store IS 'Stores the vectors of the claimed sources: a step of chatbot_process_queue().';
COMMENT ON FUNCTION chatbot_sync.queue_write_status IS 'Writes the statuses of the claimed sources to their rows: a step of chatbot_process_queue().';
COMMENT ON TABLE chatbot_sync.job IS 'The queue: one row for each source that waits for a worker.';
COMMENT ON COLUMN chatbot_sync.job.due_at IS 'When the job may be claimed: later where it is leased or waits for another attempt, infinity where only chatbot_retry() makes it due again.';
COMMENT ON COLUMN chatbot_sync.job.lease IS 'The number of the claim that has leased the job.';
COMMENT ON COLUMN chatbot_sync.job.leased_by IS 'The process that has leased the job.';
COMMENT ON COLUMN chatbot_sync.job.host IS 'The host table that has the content; NULL where the job has it.';
COMMENT ON COLUMN chatbot_sync.job.priority IS 'Jobs of the highest priority are claimed first.';
COMMENT ON COLUMN chatbot_sync.job.content IS 'The text of a source that comes from no host table.';
COMMENT ON COLUMN chatbot_sync.job.metadata IS 'The metadata of a source that comes from no host table.';
COMMENT ON PROCEDURE chatbot_reembed(int) IS 'Makes the vectors of the model that chatbot_set_model() named, and then makes it the active one.';
COMMENT ON PROCEDURE chatbot_drop_model IS 'Deletes a model that is not the active one, with its vectors.';
COMMENT ON FUNCTION chatbot_drop_index IS 'Drops the indexes of a model.';
COMMENT ON FUNCTION chatbot_sync.build_indexes IS 'Builds the indexes of a model in this transaction.';
COMMENT ON FUNCTION chatbot_sync.start_index_build IS 'Starts the worker that builds the indexes of a model: a step of chatbot_create_index().';
COMMENT ON FUNCTION chatbot_sync.wait_for_index_build IS 'Waits up to 100 ms and returns what the worker does, NULL once it is done: a step of chatbot_create_index().';
COMMENT ON FUNCTION chatbot_sync.reembed_batch IS 'Embeds one batch of sources with the next model: a step of chatbot_reembed().';
COMMENT ON FUNCTION chatbot_sync.activate_next_model IS 'Makes the next model the active one: the last step of chatbot_reembed().';
COMMENT ON FUNCTION chatbot_doctor IS 'Checks the set-up, and says what to do about each problem; asks the provider for one vector.';
COMMENT ON FUNCTION chatbot_verify IS 'Compares what is stored with every row of every host table; returns one row for each problem.';
COMMENT ON FUNCTION chatbot_repair IS 'Repairs what chatbot_verify() finds, or has it embedded again; returns the number of problems.';
COMMENT ON FUNCTION chatbot_metrics IS 'Returns figures for monitoring, with Prometheus'' names and units.';
COMMENT ON FUNCTION chatbot_sync.rolled_back IS 'Returns what was used by syncs whose transaction rolled back, since the server started; no row where the library is not preloaded.';
COMMENT ON FUNCTION chatbot_sync.is_preloaded IS 'Whether the library is preloaded, without which there are no workers.';
COMMENT ON FUNCTION chatbot_distribute IS 'Distributes the tables that grow over the nodes of Citus, by chatbot.';
COMMENT ON FUNCTION chatbot_undistribute IS 'Moves the distributed tables back to this node.';
COMMENT ON FUNCTION chatbot_sync.growing_tables IS 'Returns the tables that chatbot_distribute() distributes.';
COMMENT ON FUNCTION chatbot_sync.is_distributed IS 'Whether Citus distributes the extension''s tables.';
COMMENT ON FUNCTION chatbot_sync.run_in_each_shard IS 'Runs a query on a table, or on each of its shards, and returns the results.';
COMMENT ON FUNCTION chatbot_sync.save_and_drop_indexes IS 'Drops the indexes of all models before rows are moved; returns the ids of the models that had some.';
COMMENT ON FUNCTION chatbot_sync.recreate_indexes IS 'Builds the indexes of models again after rows were moved.';
COMMENT ON FUNCTION chatbot_sync.search_in IS 'Runs the part of chatbot_search() that belongs to the node with the chatbot''s shards.';
COMMENT ON FUNCTION chatbot_sync.require_citus IS 'Fails unless this node is the coordinator of Citus 14.0 or later.';
COMMENT ON FUNCTION chatbot_sync.run_functions_as_owner IS 'Makes functions that write run as the owner of the extension, or as their caller.';
COMMENT ON FUNCTION chatbot_sync.grant_on_nodes IS 'Grants or revokes the use of schemas on worker nodes: a step of chatbot_grant() and chatbot_revoke().';
COMMENT ON FUNCTION chatbot_sync.roles_with_level IS 'Returns the roles that have a level of chatbot_grant().';
COMMENT ON FUNCTION chatbot_sync.check_nodes IS 'Checks of chatbot_doctor() on worker nodes.';
COMMENT ON VIEW chatbot_sync.stats IS 'Figures of the syncs in sync_log and of the sources that wait, by chatbot and model.';
COMMENT ON FUNCTION chatbot_sync.purge_log IS 'Deletes some rows of sync_log that are past chatbot_sync.log_retention; returns whether there may be more.';
COMMENT ON FUNCTION chatbot_sync.purge_log_batch IS 'Deletes up to so many rows of sync_log that are past chatbot_sync.log_retention; returns how many.';
