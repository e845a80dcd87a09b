-- Processing the queue by SQL, for servers without background workers.

CREATE PROCEDURE chatbot_process_queue(max_sources int DEFAULT NULL)
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

-- Deletes a batch of old rows of the log. Returns whether there may be more.
CREATE FUNCTION chatbot_sync.purge_log() RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN chatbot_sync.purge_log_batch(10000) = 10000;
EXCEPTION WHEN serialization_failure THEN
    -- At REPEATABLE READ: somebody else has just done it.
    RETURN false;
END
$$;
