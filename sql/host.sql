-- Host tables: the functions of their triggers, what is attached, and following what is done to tables.

CREATE FUNCTION chatbot_sync.host_changed() RETURNS trigger
LANGUAGE c SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'chatbot_sync_host_changed';

-- Runs for each row with the rights of whoever writes it, and reads nothing but catalogs.
CREATE FUNCTION chatbot_sync.host_status() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'chatbot_sync_host_status';

CREATE FUNCTION chatbot_sync.host_truncated() RETURNS trigger
LANGUAGE c SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'chatbot_sync_host_truncated';

CREATE FUNCTION chatbot_sync.chatbots_deleted() RETURNS trigger
LANGUAGE c SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'chatbot_sync_chatbots_deleted';

CREATE VIEW chatbot_sync.host_table AS
    SELECT (a.told ->> 'host')::int AS host,
        t.tgrelid::regclass AS relation,
        a.told ->> 'source_type' AS source_type,
        a.told #>> '{columns,id,0}' AS id_column,
        a.told #>> '{columns,chatbot,0}' AS chatbot_column,
        a.told #>> '{columns,content,0}' AS content_column,
        ARRAY(SELECT m ->> 0 FROM pg_catalog.jsonb_array_elements(a.told #> '{columns,metadata}') AS m) AS metadata_columns,
        a.told #>> '{columns,enabled,0}' AS enabled_column,
        a.told #>> '{columns,status,0}' AS status_column,
        a.told #>> '{columns,processed,0}' AS processed_column,
        a.told #>> '{columns,error,0}' AS error_column,
        a.told ->> 'mode' AS mode,
        a.told ->> 'on_error' AS on_error,
        a.told ->> 'content_format' AS content_format
    FROM pg_catalog.pg_trigger t
    CROSS JOIN LATERAL (SELECT (pg_catalog.convert_from(
        pg_catalog.substring(t.tgargs, 1, pg_catalog.length(t.tgargs) - 1), pg_catalog.getdatabaseencoding()))::jsonb AS told) AS a
    WHERE t.tgfoid = 'chatbot_sync.host_changed'::regproc AND t.tgnargs = 1 AND NOT t.tgisinternal
        AND t.tgname = pg_catalog.format('chatbot_sync_%s_insert', a.told ->> 'host') AND NOT (a.told ->> 'partition')::boolean;

-- As its owner, as adopt() does: what comes before it in the transaction may be on other nodes.
CREATE FUNCTION chatbot_sync.count_waiting(of_chatbot bigint) RETURNS bigint
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN count(*) FROM chatbot_sync.source AS s
    WHERE s.status <> 'synced' AND s.enabled AND s.host IS NOT NULL AND (of_chatbot IS NULL OR s.chatbot_id = of_chatbot);
END
$$;

CREATE PROCEDURE chatbot_sync_all(chatbot_id bigint DEFAULT NULL, batch int DEFAULT 100)
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
BEGIN
    IF batch IS NULL OR batch OPERATOR(pg_catalog.<) 1 THEN
        RAISE invalid_parameter_value USING
            MESSAGE = pg_catalog.format('batch is %s, expected 1 or more', COALESCE(batch::text, 'NULL')),
            HINT = 'As many sources are committed together.';
    END IF;
    PERFORM chatbot_sync.adopt();
    whole := chatbot_sync.count_waiting(chatbot_id);
    LOOP
        SELECT * INTO step
        FROM chatbot_sync.sync_batch(chatbot_id, batch, last_chatbot_id, last_source_type, last_source_id) AS s;
        EXIT WHEN step.taken OPERATOR(pg_catalog.=) 0;
        -- Where the caller said BEGIN it is for the caller to commit.
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

CREATE FUNCTION chatbot_sync.after_ddl() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    changed oid;
BEGIN
    FOR changed IN
        SELECT c.objid FROM pg_event_trigger_ddl_commands() AS c WHERE c.classid = 'pg_class'::regclass
    LOOP
        PERFORM chatbot_sync.table_altered(changed);
    END LOOP;
    FOR changed IN
        SELECT t.tgrelid FROM pg_event_trigger_ddl_commands() AS c
        JOIN pg_trigger AS t ON t.oid = c.objid JOIN pg_proc AS p ON p.oid = t.tgfoid
        WHERE c.classid = 'pg_trigger'::regclass AND p.pronamespace = 'chatbot_sync'::regnamespace
    LOOP
        PERFORM chatbot_sync.triggers_restored(changed);
    END LOOP;
END
$$;

CREATE FUNCTION chatbot_sync.after_drop() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    hosts int[];
    changed oid;
    chatbot bigint;
BEGIN
    -- Our triggers that went with their tables; those that were dropped by name were detached.
    SELECT array_agg(DISTINCT substring(d.address_names[3] FROM '^chatbot_sync_([0-9]+)_insert$')::int) INTO hosts
    FROM pg_event_trigger_dropped_objects() AS d
    WHERE d.object_type = 'trigger' AND NOT d.original AND d.address_names[3] ~ '^chatbot_sync_[0-9]+_insert$';
    IF hosts IS NOT NULL THEN
        PERFORM chatbot_sync.tables_dropped(hosts);
    END IF;
    -- The chatbots are gone, all of them.
    IF EXISTS (
        SELECT FROM pg_event_trigger_dropped_objects() AS d
        WHERE d.object_type = 'trigger' AND NOT d.original AND d.address_names[3] = 'chatbot_sync_chatbots_delete'
    ) AND NOT EXISTS (SELECT FROM pg_trigger AS t WHERE t.tgname = 'chatbot_sync_chatbots_delete') THEN
        FOR chatbot IN SELECT s.chatbot_id FROM chatbot_sync.source AS s UNION SELECT s.chatbot_id FROM chatbot_sync.session AS s LOOP
            PERFORM @extschema@.chatbot_cleanup(chatbot);
        END LOOP;
    END IF;
    -- A column can go with its type.
    FOR changed IN
        SELECT DISTINCT d.objid FROM pg_event_trigger_dropped_objects() AS d JOIN pg_class AS c ON c.oid = d.objid
        WHERE d.object_type = 'table column'
    LOOP
        PERFORM chatbot_sync.table_altered(changed);
    END LOOP;
END
$$;

CREATE EVENT TRIGGER chatbot_sync_ddl ON ddl_command_end WHEN TAG IN ('ALTER TABLE', 'CREATE TABLE', 'CREATE TRIGGER')
    EXECUTE FUNCTION chatbot_sync.after_ddl();
CREATE EVENT TRIGGER chatbot_sync_drop ON sql_drop EXECUTE FUNCTION chatbot_sync.after_drop();
