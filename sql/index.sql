-- The indexes of a model's chunks: HNSW for vectors, GIN for terms. Small chatbots are searched without, by the primary
-- key.

CREATE FUNCTION chatbot_sync.is_distributed() RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF to_regclass('pg_catalog.pg_dist_partition') IS NULL THEN
        RETURN false;
    END IF;
    RETURN EXISTS (SELECT FROM pg_dist_partition AS p WHERE p.logicalrelid = 'chatbot_sync.embedding'::regclass);
END
$$;

-- The indexes that each model should have, and those that exist. A dump does not contain indexes that were added to an
-- extension's table, so chatbot_sync.model.indexed says which models should have them.
CREATE VIEW chatbot_sync.model_index AS
    SELECT m.id AS model_id, k.kind, k.name, m.indexed AS wanted,
        i.indexrelid IS NOT NULL AS present, COALESCE(i.indisvalid, false) AS valid,
        CASE WHEN i.indisvalid AND NOT chatbot_sync.is_distributed() THEN c.reltuples END AS chunks,
        CASE WHEN NOT chatbot_sync.is_distributed() THEN pg_catalog.pg_relation_size(i.indexrelid) END AS bytes
    FROM chatbot_sync.model m
    CROSS JOIN LATERAL (SELECT v.kind, pg_catalog.format('embedding_%s_%s', v.kind, m.id) AS name
        FROM (VALUES ('words'), ('hnsw')) AS v (kind)) AS k
    LEFT JOIN (pg_catalog.pg_class c JOIN pg_catalog.pg_index i ON i.indexrelid = c.oid)
        ON c.relname = k.name AND i.indrelid = 'chatbot_sync.embedding'::pg_catalog.regclass;

CREATE FUNCTION chatbot_sync.needs_index(model_id int) RETURNS int
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

-- Makes the indexes of a model. CREATE INDEX CONCURRENTLY cannot run in a function or procedure, so a background worker
-- runs it and this procedure waits for it. The procedure commits in its loop, since the worker waits for the snapshots
-- of all sessions.
CREATE PROCEDURE chatbot_create_index(model_id int DEFAULT NULL, concurrent boolean DEFAULT true)
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
    wanted := chatbot_sync.needs_index(model_id);
    IF NOT concurrent THEN
        PERFORM chatbot_sync.index_build(wanted);
        RETURN;
    END IF;
    COMMIT;
    PERFORM chatbot_sync.index_start(wanted);
    LOOP
        COMMIT;
        doing := chatbot_sync.index_step();
        EXIT WHEN doing IS NULL;
        IF said IS NULL OR said OPERATOR(pg_catalog.<>) doing THEN
            RAISE NOTICE '%', doing;
        END IF;
        said := doing;
    END LOOP;
END
$$;

CREATE FUNCTION chatbot_drop_index(model_id int DEFAULT NULL) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    i record;
BEGIN
    FOR i IN
        SELECT x.model_id, x.name, x.present FROM chatbot_sync.model_index AS x JOIN chatbot_sync.model AS m ON m.id = x.model_id
        WHERE m.id = chatbot_drop_index.model_id OR chatbot_drop_index.model_id IS NULL AND m.active
    LOOP
        IF i.present THEN
            EXECUTE format('DROP INDEX chatbot_sync.%I', i.name);
        END IF;
        UPDATE chatbot_sync.model AS m SET indexed = false, index_error = NULL WHERE m.id = i.model_id AND m.indexed;
    END LOOP;
    IF NOT FOUND AND model_id IS NOT NULL THEN
        RAISE invalid_parameter_value USING
            MESSAGE = format('model_id is %s, expected the id of a model', model_id),
            HINT = 'Models and their ids: TABLE chatbot_sync.model;';
    END IF;
END
$$;
