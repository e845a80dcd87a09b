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

-- Makes the indexes of a model. CREATE INDEX CONCURRENTLY cannot run in a function or procedure, so a background worker
-- runs it and this procedure waits for it. The procedure commits in its loop, since the worker waits for the snapshots
-- of all sessions.
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

CREATE FUNCTION chatbot_drop_index(model_id int DEFAULT NULL) RETURNS void
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
