-- Changing the model, and making the vectors of the new one.

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

CREATE PROCEDURE chatbot_reembed(batch int DEFAULT 100)
LANGUAGE plpgsql
AS $$
BEGIN
    CALL @extschema@.chatbot_reembed(false, batch);
END
$$;

-- Deletes up to `batch` vectors of a model that is not there any more, and returns the place of the last one, from which the
-- next call continues; NULL: none is left. A call that began at the front again would read all rows of other models, and
-- those that are deleted already. It runs as the owner of the index that was dropped before: Citus refuses two roles at one
-- table in a transaction.
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

CREATE PROCEDURE chatbot_drop_model(model_id int, batch int DEFAULT 10000)
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
