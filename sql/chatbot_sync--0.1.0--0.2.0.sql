-- From 0.1.0 to 0.2.0: indexes, and searches that are one statement, where Citus has the tables.

CREATE FUNCTION chatbot_sync.search_in(embedding oid, source oid, question jsonb, metadata_filter jsonb, vector real[])
RETURNS TABLE (source_type text, source_id bigint, chunk_index int, content text, similarity real, score real, metadata jsonb)
LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'chatbot_sync_search_in_wrapper';

CREATE FUNCTION chatbot_sync.in_each_shard(relation regclass, query text) RETURNS text[]
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    failed text;
    said text[];
BEGIN
    IF NOT chatbot_sync.is_distributed() THEN
        EXECUTE format('SELECT ARRAY(' || query || ')', relation) INTO said;
        RETURN said;
    END IF;
    SELECT array_agg(s.result) FILTER (WHERE s.success AND s.result <> ''), min(s.result) FILTER (WHERE NOT s.success) INTO said, failed
    FROM run_command_on_shards(relation, query) AS s;
    IF failed IS NOT NULL THEN
        RAISE object_not_in_prerequisite_state USING MESSAGE = format('a shard of %s failed: %s', relation, failed), DETAIL = query,
            HINT = 'Each node needs the versions that are here: SELECT * FROM chatbot_doctor() WHERE check_name LIKE ''node%'';';
    END IF;
    RETURN COALESCE(said, '{}');
END
$$;

CREATE FUNCTION chatbot_sync.put_indexes_aside() RETURNS int[]
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    indexed int[] := ARRAY(SELECT m.id FROM chatbot_sync.model AS m WHERE m.indexed);
BEGIN
    PERFORM @extschema@.chatbot_drop_index(i) FROM unnest(indexed) AS i;
    RETURN indexed;
END
$$;

CREATE FUNCTION chatbot_sync.bring_indexes_back(indexed int[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    i int;
BEGIN
    FOREACH i IN ARRAY indexed LOOP
        RAISE NOTICE 'model %: making its indexes', i;
        CALL @extschema@.chatbot_create_index(i, concurrent => false);
    END LOOP;
END
$$;

CREATE FUNCTION chatbot_sync.drop_vectors(model_id int, batch int) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    gone bigint;
BEGIN
    IF EXISTS (SELECT FROM chatbot_sync.model AS m WHERE m.id = model_id) THEN
        RETURN 0;
    END IF;
    DELETE FROM chatbot_sync.embedding AS e
    USING (SELECT f.chatbot_id, f.source_type, f.source_id, f.chunk_id FROM chatbot_sync.embedding AS f
        WHERE f.model_id = drop_vectors.model_id LIMIT batch) AS g
    WHERE (e.chatbot_id, e.source_type, e.source_id, e.chunk_id) = (g.chatbot_id, g.source_type, g.source_id, g.chunk_id)
        AND e.model_id = drop_vectors.model_id;
    GET DIAGNOSTICS gone = ROW_COUNT;
    RETURN gone;
END
$$;

REVOKE ALL ON FUNCTION chatbot_sync.search_in, chatbot_sync.in_each_shard, chatbot_sync.put_indexes_aside, chatbot_sync.bring_indexes_back, chatbot_sync.drop_vectors FROM PUBLIC;
COMMENT ON FUNCTION chatbot_sync.in_each_shard IS 'What a query says of a table, or of each of its shards.';
COMMENT ON FUNCTION chatbot_sync.put_indexes_aside IS 'Drops the indexes of models while rows move: which models had some.';
COMMENT ON FUNCTION chatbot_sync.bring_indexes_back IS 'Makes them again.';
COMMENT ON FUNCTION chatbot_sync.drop_vectors IS 'A step of chatbot_drop_model().';
COMMENT ON FUNCTION chatbot_sync.search_in IS 'What chatbot_search() asks of the node that has the chatbot, where Citus has the tables.';

CREATE OR REPLACE VIEW chatbot_sync.model_index AS
    SELECT m.id AS model_id, k.kind, k.name, m.indexed AS wanted,
        i.indexrelid IS NOT NULL AS present, COALESCE(i.indisvalid, false) AS valid,
        CASE WHEN i.indisvalid AND NOT chatbot_sync.is_distributed() THEN c.reltuples END AS chunks,
        CASE WHEN NOT chatbot_sync.is_distributed() THEN pg_catalog.pg_relation_size(i.indexrelid) END AS bytes
    FROM chatbot_sync.model m
    CROSS JOIN LATERAL (SELECT v.kind, pg_catalog.format('embedding_%s_%s', v.kind, m.id) AS name
        FROM (VALUES ('words'), ('hnsw')) AS v (kind)) AS k
    LEFT JOIN (pg_catalog.pg_class c JOIN pg_catalog.pg_index i ON i.indexrelid = c.oid)
        ON c.relname = k.name AND i.indrelid = 'chatbot_sync.embedding'::pg_catalog.regclass;

CREATE OR REPLACE FUNCTION chatbot_sync.index_wanted(model_id int) RETURNS int
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    m record;
BEGIN
    SELECT * INTO m FROM chatbot_sync.model AS x WHERE x.id = model_id OR model_id IS NULL AND x.active;
    IF NOT FOUND THEN
        RAISE invalid_parameter_value USING
            MESSAGE = format('model_id is %s, expected the id of a model', COALESCE(model_id::text, 'NULL and nothing was embedded yet')),
            HINT = 'Models and their ids: TABLE chatbot_sync.model;';
    END IF;
    IF m.dimensions > 4000 THEN
        RAISE program_limit_exceeded USING
            MESSAGE = format('model %s has %s dimensions, the limit of an index is 4000', m.id, m.dimensions),
            HINT = 'Choose a model, or dimensions, that are shorter: chatbot_set_model().';
    END IF;
    UPDATE chatbot_sync.model AS x SET indexed = true, index_error = NULL WHERE x.id = m.id;
    RETURN m.id;
END
$$;

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
    PERFORM chatbot_sync.must_have_citus();
    IF chatbot_sync.is_distributed() THEN
        RAISE object_not_in_prerequisite_state USING
            MESSAGE = 'the tables are distributed already', HINT = 'For another number of shards, SELECT chatbot_undistribute(); first.';
    END IF;
    indexed := chatbot_sync.put_indexes_aside();
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
    PERFORM chatbot_sync.act_as_owner(true);
    -- With several connections to a node, a row that one has locked is waited for by another, for ever: the rows of a source
    -- and of its chunks are in several statements.
    EXECUTE format('ALTER DATABASE %I SET citus.max_adaptive_executor_pool_size = 1', current_database());
    RAISE NOTICE 'sessions that are open should connect anew: citus.max_adaptive_executor_pool_size is 1 from now on';
    PERFORM chatbot_sync.bring_indexes_back(indexed);
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
    PERFORM chatbot_sync.must_have_citus();
    IF NOT chatbot_sync.is_distributed() THEN
        RAISE object_not_in_prerequisite_state USING
            MESSAGE = 'the tables are not distributed', HINT = 'Nothing is to be done.';
    END IF;
    PERFORM set_config('citus.multi_shard_modify_mode', 'sequential', true);
    FOR t IN SELECT chatbot_sync.growing_tables() LOOP
        EXECUTE format('LOCK TABLE chatbot_sync.%I IN ACCESS EXCLUSIVE MODE', t);
    END LOOP;
    indexed := chatbot_sync.put_indexes_aside();
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
    PERFORM chatbot_sync.act_as_owner(false);
    PERFORM chatbot_sync.bring_indexes_back(indexed);
    EXECUTE format('ALTER DATABASE %I RESET citus.max_adaptive_executor_pool_size', current_database());
END
$$;

CREATE OR REPLACE PROCEDURE chatbot_drop_model(model_id int, batch int DEFAULT 10000)
LANGUAGE plpgsql
AS $$
DECLARE
    gone bigint;
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
    DELETE FROM chatbot_sync.model AS m WHERE m.id OPERATOR(pg_catalog.=) model_id;
    UPDATE chatbot_sync.model AS m SET replaced = NULL WHERE m.replaced OPERATOR(pg_catalog.=) model_id;
    LOOP
        gone := chatbot_sync.drop_vectors(model_id, batch);
        IF NOT chatbot_sync.in_transaction_block() THEN
            COMMIT;
        END IF;
        EXIT WHEN gone OPERATOR(pg_catalog.=) 0;
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
    -- Where the library and the SQL do not go together, nothing else is to be asked.
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
    -- The provider, asked for one vector.
    began := clock_timestamp();
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
    -- Nodes of Citus. What follows would ask one that is down.
    FOR check_name, status, detail, hint IN SELECT * FROM chatbot_sync.doctor_of_nodes() AS n LOOP
        RETURN NEXT;
        down := down OR check_name = 'node down';
    END LOOP;
    IF down THEN
        RETURN;
    END IF;
    RETURN QUERY SELECT * FROM chatbot_sync.check_workers();
    -- The queue
    SELECT count(*) INTO found FROM chatbot_sync.job AS j WHERE j.due_at <= clock_timestamp() - interval '10 minutes';
    RETURN QUERY SELECT 'queue', CASE WHEN found > 0 THEN 'warning' ELSE 'ok' END,
        format('%s jobs, %s due for more than ten minutes', (SELECT count(*) FROM chatbot_sync.job), found),
        CASE WHEN found > 0 THEN 'CALL chatbot_process_queue();' END;
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
            'ALTER SYSTEM SET chatbot_sync.max_chunks = 1000; then embed them again. Which: SELECT * FROM chatbot_sync.source WHERE truncated;';
    END IF;
    RETURN QUERY SELECT * FROM chatbot_sync.check_sources();
    RETURN QUERY SELECT * FROM chatbot_sync.check_hosts();
    RETURN QUERY SELECT * FROM chatbot_sync.check_backup();
    -- Triggers
    FOR said, version IN
        SELECT t.tgrelid::regclass::text, t.tgname::text FROM pg_trigger AS t JOIN pg_proc AS p ON p.oid = t.tgfoid
        WHERE p.pronamespace = 'chatbot_sync'::regnamespace AND t.tgenabled = 'D'
    LOOP
        RETURN QUERY SELECT 'triggers', 'error', format('trigger %s of %s is disabled: its changes are not seen', version, said),
            format('ALTER TABLE %s ENABLE TRIGGER %I; and then SELECT chatbot_repair();', said, version);
    END LOOP;
    FOR said, found IN
        SELECT h.relation::text, (SELECT count(*) FROM pg_trigger AS t WHERE t.tgrelid = h.relation AND t.tgname LIKE 'chatbot\_sync\_' || h.host || '\_%')
        FROM chatbot_sync.host_table AS h
    LOOP
        IF found < 4 THEN
            RETURN QUERY SELECT 'triggers', 'error', format('%s has %s of its 4 triggers', said, found),
                format('SELECT chatbot_detach(%L); and chatbot_attach() again.', said);
        END IF;
    END LOOP;
    IF (SELECT count(*) FROM pg_event_trigger AS t WHERE t.evtname IN ('chatbot_sync_ddl', 'chatbot_sync_drop') AND t.evtenabled <> 'D') < 2 THEN
        RETURN QUERY SELECT 'event triggers', 'error', 'changes of host tables are not followed',
            'ALTER EVENT TRIGGER chatbot_sync_ddl ENABLE; ALTER EVENT TRIGGER chatbot_sync_drop ENABLE;';
    END IF;
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
        -- Where there are nodes, it is they that say how far they are.
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
        IF 'true' = ANY (chatbot_sync.in_each_shard('chatbot_sync.embedding', 'SELECT (c.reltuples <> 0 AND NOT EXISTS (SELECT FROM pg_statistic AS s WHERE s.starelid = c.oid))::text FROM pg_class AS c WHERE c.oid = ''%s''::regclass')) THEN
            RETURN QUERY SELECT 'indexes', 'warning', 'Postgres does not know which chatbots are large, and so uses no index',
                'ANALYZE chatbot_sync.embedding, chatbot_sync.source;';
        END IF;
    ELSIF NOT EXISTS (SELECT FROM chatbot_sync.model AS m WHERE m.active AND m.indexed) THEN
        -- As src/scan.rs decides, with four times the limit: an index makes each write slower.
        RETURN QUERY SELECT 'indexes', 'warning', a, 'CALL chatbot_create_index();'
        FROM unnest(chatbot_sync.in_each_shard('chatbot_sync.source', $sql$
            SELECT 'a search of chatbot ' || s.chatbot_id || ' reads all its ' || s.chunks || ' chunks'
            FROM (SELECT x.chatbot_id, sum(x.chunk_count) AS chunks, sum(sum(x.chunk_count)) OVER () AS of_all FROM %s AS x GROUP BY x.chatbot_id) AS s
            WHERE s.chunks > greatest(1, 50 * s.of_all / nullif(s.chunks, 0) / 500) * 4 * $sql$ || current_setting('chatbot_sync.exact_search_limit') || '
            ORDER BY s.chunks DESC LIMIT 1')) AS a
        LIMIT 1;
    END IF;
    -- Keys that a session may see
    SELECT count(*) INTO found FROM pg_db_role_setting AS s, unnest(s.setconfig) AS c WHERE c LIKE 'chatbot\_sync.%\_api\_key=%';
    IF found > 0 THEN
        RETURN QUERY SELECT 'keys', 'warning', 'a key is a setting of a role or database, which everybody may read',
            'Put it into a file: ALTER SYSTEM SET chatbot_sync.openai_api_key_file = ''/path/to/file'';';
    END IF;
END
$$;

CREATE OR REPLACE FUNCTION chatbot_sync.functions_of(level text) RETURNS SETOF regprocedure
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
        ('chatbot_sync_all', 2), ('adopt', 2), ('count_waiting', 2), ('sync_batch', 2), ('in_transaction_block', 2), ('host_changed', 2),
        ('chatbot_enqueue_source', 2), ('chatbot_retry', 2), ('chatbot_process_queue', 2), ('queue_claim', 2),
        ('queue_embed', 2), ('queue_store', 2), ('queue_tell', 2), ('purge_log', 2),
        ('host_status', 2), ('host_truncated', 2), ('chatbots_deleted', 2),
        ('chatbot_estimate', 2), ('chatbot_metrics', 1), ('chatbot_doctor', 2), ('chatbot_verify', 3), ('chatbot_repair', 3), ('chatbot_set_model', 3), ('chatbot_reembed', 3), ('chatbot_drop_model', 3),
        ('reembed_batch', 3), ('swap_model', 3), ('drop_vectors', 3), ('chatbot_create_index', 3), ('chatbot_drop_index', 3), ('index_wanted', 3), ('is_distributed', 1),
        ('index_build', 3), ('index_start', 3), ('index_step', 3)
    ) AS f (name, least) ON f.name = p.proname
    WHERE f.least <= CASE level WHEN 'read' THEN 1 WHEN 'app' THEN 2 WHEN 'admin' THEN 3 END
$$;
