-- For whoever runs it: what is wrong, what is going on, and figures for monitoring.

CREATE VIEW chatbot_sync.source_status AS
    SELECT s.chatbot_id, s.source_type, s.source_id,
        CASE WHEN s.status = 'synced' AND j.chatbot_id IS NOT NULL THEN 'pending' ELSE s.status END AS status,
        CASE WHEN s.truncated THEN 'the text goes on after its last chunk: chatbot_sync.max_chunks' ELSE s.error END AS reason,
        s.error_code, s.attempts, s.next_attempt_at, s.chunk_count, s.enabled, s.synced_at,
        now() - s.synced_at AS age
    FROM chatbot_sync.source s
    LEFT JOIN (SELECT DISTINCT chatbot_id, source_type, source_id FROM chatbot_sync.job WHERE due_at < 'infinity') AS j
        ON (j.chatbot_id, j.source_type, j.source_id) = (s.chatbot_id, s.source_type, s.source_id);

CREATE VIEW chatbot_sync.stats AS
    SELECT l.chatbot_id, m.provider, m.model, count(*) AS syncs, sum(l.embedded) AS embedded,
        sum(l.chunks - l.embedded) AS reused, sum(l.requests)::bigint AS requests, sum(l.inputs)::bigint AS inputs,
        sum(l.tokens)::bigint AS tokens, avg(l.total_ms) AS mean_ms,
        percentile_cont(0.95) WITHIN GROUP (ORDER BY l.total_ms) AS p95_ms, avg(l.embedding_ms) AS mean_embedding_ms,
        max(l.logged_at) AS last_sync
    FROM chatbot_sync.sync_log l LEFT JOIN chatbot_sync.model m ON m.id = l.model_id
    GROUP BY l.chatbot_id, m.provider, m.model;

CREATE FUNCTION chatbot_metrics() RETURNS TABLE (name text, labels jsonb, value double precision, type text, help text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 'chatbot_sync_sources', jsonb_build_object('status', s.status), count(x.status)::float8, 'gauge',
        'Sources by their status.'
    FROM (VALUES ('synced'), ('pending'), ('error')) AS s (status)
    LEFT JOIN chatbot_sync.source AS x ON x.status = s.status GROUP BY s.status
    UNION ALL
    SELECT 'chatbot_sync_chunks', '{}', COALESCE(sum(chunk_count), 0)::float8, 'gauge', 'Chunks of all sources.'
    FROM chatbot_sync.source
    UNION ALL
    SELECT 'chatbot_sync_sources_truncated', '{}', count(*)::float8, 'gauge', 'Sources whose end was cut off.'
    FROM chatbot_sync.source WHERE truncated
    UNION ALL
    SELECT 'chatbot_sync_jobs', jsonb_build_object('state', s.state), count(j.state)::float8, 'gauge',
        'Jobs of the queue: due, later (leased, or to be tried again) and failed.'
    FROM (VALUES ('due'), ('later'), ('failed')) AS s (state)
    LEFT JOIN (SELECT CASE WHEN due_at = 'infinity' THEN 'failed' WHEN due_at > clock_timestamp() THEN 'later' ELSE 'due' END AS state
        FROM chatbot_sync.job) AS j ON j.state = s.state GROUP BY s.state
    UNION ALL
    SELECT 'chatbot_sync_oldest_due_job_age_seconds', '{}',
        COALESCE(extract(epoch FROM clock_timestamp() - min(created_at)), 0)::float8, 'gauge', 'Age of the oldest job that is due.'
    FROM chatbot_sync.job WHERE due_at <= clock_timestamp()
    UNION ALL
    SELECT m.name, jsonb_build_object('provider', s.provider, 'model', s.model), m.value::float8, 'counter', m.help
    FROM (SELECT provider, model, sum(syncs) AS syncs, sum(requests) AS requests, sum(inputs) AS inputs, sum(tokens) AS tokens,
            sum(mean_ms * syncs) / 1000 AS seconds
        FROM chatbot_sync.stats GROUP BY provider, model) AS s
    CROSS JOIN LATERAL (VALUES
        ('chatbot_sync_syncs_total', s.syncs::float8, 'Syncs that asked a provider and committed, as far as sync_log has them.'),
        ('chatbot_sync_requests_total', s.requests::float8, 'Requests to the provider.'),
        ('chatbot_sync_inputs_total', s.inputs::float8, 'Texts that were sent.'),
        ('chatbot_sync_tokens_total', s.tokens::float8, 'Tokens, as the provider counts them.'),
        ('chatbot_sync_sync_seconds_total', s.seconds::float8, 'Time that syncs took.')) AS m (name, value, help)
$$;

CREATE FUNCTION chatbot_doctor() RETURNS TABLE (check_name text, status text, detail text, hint text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    version text;
    found bigint;
    said text;
    began timestamptz;
    down boolean := false;
    preloaded boolean := chatbot_sync.is_preloaded();
    waits boolean := EXISTS (SELECT FROM chatbot_sync.host_table AS h WHERE h.mode = 'async') OR EXISTS (SELECT FROM chatbot_sync.job);
BEGIN
    -- pgvector
    SELECT e.extversion INTO version FROM pg_extension AS e WHERE e.extname = 'vector';
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
    -- Workers
    RETURN QUERY SELECT 'workers',
        CASE WHEN preloaded OR NOT waits THEN 'ok' ELSE 'warning' END,
        CASE WHEN preloaded THEN format('preloaded; %s at work', (SELECT count(*) FROM pg_stat_activity AS a WHERE a.backend_type = 'chatbot_sync worker'))
            ELSE 'the library is not preloaded' END,
        CASE WHEN preloaded THEN NULL ELSE 'Preload it (ALTER SYSTEM SET shared_preload_libraries = ''chatbot_sync''; and restart), or CALL chatbot_process_queue(); again and again.' END;
    IF preloaded AND NOT EXISTS (SELECT FROM pg_stat_activity AS a WHERE a.backend_type = 'chatbot_sync launcher') THEN
        RETURN QUERY SELECT 'launcher', 'error', 'it does not run', 'Is max_worker_processes large enough? Raise it and restart the server.';
    END IF;
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
    IF EXISTS (SELECT FROM pg_event_trigger AS t WHERE t.evtname IN ('chatbot_sync_ddl', 'chatbot_sync_drop') AND t.evtenabled = 'D') THEN
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
    -- Keys that a session may see
    SELECT count(*) INTO found FROM pg_db_role_setting AS s, unnest(s.setconfig) AS c WHERE c LIKE 'chatbot\_sync.%\_api\_key=%';
    IF found > 0 THEN
        RETURN QUERY SELECT 'keys', 'warning', 'a key is a setting of a role or database, which everybody may read',
            'Put it into a file: ALTER SYSTEM SET chatbot_sync.openai_api_key_file = ''/path/to/file'';';
    END IF;
END
$$;

CREATE FUNCTION chatbot_repair() RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    p record;
    repaired bigint := 0;
    waiting bigint;
BEGIN
    FOR p IN SELECT * FROM @extschema@.chatbot_verify() LOOP
        IF p.problem = 'orphan' THEN
            PERFORM @extschema@.chatbot_delete_source(p.chatbot_id, p.source_type, p.source_id);
        ELSIF p.problem = 'detached' THEN
            UPDATE chatbot_sync.source AS s SET host = NULL
            WHERE (s.chatbot_id, s.source_type, s.source_id) = (p.chatbot_id, p.source_type, p.source_id);
        ELSIF p.problem <> 'missing' THEN
            -- Without a table that has the text, only its owner can embed it again.
            UPDATE chatbot_sync.source AS s SET content_hash = NULL,
                status = CASE WHEN s.host IS NULL THEN 'error' ELSE 'pending' END,
                error_code = CASE WHEN s.host IS NULL THEN '55000' END,
                error = CASE WHEN s.host IS NULL THEN p.problem || ': ' || p.detail || '. Embed it again.' END
            WHERE (s.chatbot_id, s.source_type, s.source_id) = (p.chatbot_id, p.source_type, p.source_id);
            IF p.problem <> 'stale' THEN
                DELETE FROM chatbot_sync.embedding AS e
                WHERE (e.chatbot_id, e.source_type, e.source_id) = (p.chatbot_id, p.source_type, p.source_id);
            END IF;
        END IF;
        RAISE NOTICE '% % of chatbot %: %', p.source_type, p.source_id, p.chatbot_id, p.problem;
        repaired := repaired + 1;
    END LOOP;
    PERFORM chatbot_sync.adopt();
    SELECT count(*) INTO waiting FROM chatbot_sync.source AS s
    WHERE s.status = 'pending' AND s.enabled AND s.host IS NOT NULL;
    IF waiting > 0 THEN
        RAISE NOTICE '% sources are pending: CALL chatbot_sync_all();', waiting;
    END IF;
    RETURN repaired;
END
$$;
