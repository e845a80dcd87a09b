\set QUIET 1
\set ON_ERROR_STOP 1
\pset footer off
\pset border 0
\pset tuples_only off
SET client_min_messages = notice;
\echo
\echo '--- An application has a table of documents. Here it is the manual, a page a row.'
\set ECHO queries
CREATE TABLE page (id bigint PRIMARY KEY, title text, content text);
\set ECHO none
\copy page FROM pstdin CSV
\set ECHO queries

SELECT count(*) AS pages, sum(length(content)) AS characters FROM page;
\if :{?model}
\echo '--- A transformer takes some hundredths of a second for each chunk: here it learns every tenth page.'
DELETE FROM page WHERE id % 10 <> 0;
\endif

\echo '--- The extension: no key, no network, no other service.'
CREATE EXTENSION chatbot_sync CASCADE;
\if :{?model}
\echo '--- The model is imported from its folder once; all sessions share it. In eight bits it is about twice as fast.'
SELECT chatbot_set_model('local', :'model', options => '{"precision": "int8"}');
SELECT model, dimensions, round(bytes_per_second / 1000) AS chunks_per_second FROM chatbot_sync.model;
\endif

\echo '--- Chatbot 1 learns every page. Chunks, vectors and the application''s own rows could be one transaction;'
\echo '--- here each hundred pages are one, so that you see it work.'
DO $$
DECLARE
    p record;
    n int := 0;
    chunks int := 0;
    began timestamptz := clock_timestamp();
BEGIN
    FOR p IN SELECT * FROM page ORDER BY id LOOP
        SELECT chunks + chunks_created INTO chunks
        FROM chatbot_embed_source(1, 'document', p.id, p.content, jsonb_build_object('title', p.title));
        n := n + 1;
        IF n % 100 = 0 THEN
            COMMIT;
            RAISE NOTICE '% pages, % chunks, % s', n, chunks, round(extract(epoch FROM clock_timestamp() - began), 1);
        END IF;
    END LOOP;
    RAISE NOTICE '% pages, % chunks, % s', n, chunks, round(extract(epoch FROM clock_timestamp() - began), 1);
END
$$;

SELECT count(*) AS sources, sum(chunk_count) AS chunks, count(*) FILTER (WHERE truncated) AS cut_off,
    pg_size_pretty(pg_total_relation_size('chatbot_sync.embedding')) AS size
FROM chatbot_sync.source;

\echo '--- Ask it, in plain words.'
PREPARE ask (text) AS
    SELECT round(similarity::numeric, 3) AS score, metadata ->> 'title' AS page,
        substr(regexp_replace(content, '\s+', ' ', 'g'), 1, 76) AS text
    FROM chatbot_search(1, $1, 3);
EXECUTE ask ('How do I restore a dump into a new database?');
EXECUTE ask ('How often should I vacuum a table?');
EXECUTE ask ('What happens when two transactions wait for each other?');
EXECUTE ask ('How do I change the type of a column?');
EXECUTE ask ('How do I make a standby server for failover?');
\echo '--- And in another language than the manual''s: the model that is built in knows 26.'
EXECUTE ask ('Wie ändere ich das Passwort eines Benutzers?');
EXECUTE ask ('¿Cómo hago una copia de seguridad de la base de datos?');

\echo '--- Somebody puts a sentence into the middle of a long page. Only what changed is embedded again.'
\set ECHO none
SELECT id AS longest FROM page WHERE length(content) < 60000 ORDER BY length(content) DESC LIMIT 1 \gset
\set ECHO queries
UPDATE page
SET content = overlay(content PLACING 'A sentence that is new. ' FROM position('. ' IN substr(content, length(content) / 2)) + length(content) / 2 + 1 FOR 0)
WHERE id = :longest;
SELECT title, chunks_created AS chunks, embeddings_reused AS kept, chunks_created - embeddings_reused AS embedded_again
FROM page, chatbot_embed_source(1, 'document', id, content, jsonb_build_object('title', title))
WHERE id = :longest;

\echo '--- A rollback takes the vectors with it.'
BEGIN;
SELECT status, embeddings_count FROM chatbot_embed_source(1, 'document', 1000000, 'The tea kitchen is on the third floor.');
SELECT content FROM chatbot_search(1, 'where can I get tea?', 1);
ROLLBACK;
SELECT count(*) AS left_of_it FROM chatbot_sync.embedding WHERE source_id = 1000000;

\echo '--- The table itself can be attached: short pages are known to chatbot 2, too, from now on, with their titles.'
SELECT chatbot_attach('page', 'document', chatbot_id => 2, title_column => 'title', condition => 'length(content) < 3000');
\echo '--- What it has already is embedded by one call, what is written later by the statement that writes it.'
\if :{?model}
SELECT chunks_to_embed, round(seconds::numeric, 1) AS seconds FROM chatbot_estimate('page');
\endif
SET client_min_messages = warning;
CALL chatbot_sync_all();
INSERT INTO page VALUES (1000001, 'The office', 'The tea kitchen is on the third floor.');
SET client_min_messages = notice;
SELECT metadata ->> 'title' AS page, content AS text FROM chatbot_search(2, 'where in the office can I get tea?', 1);
TABLE chatbot_sync.progress;
SELECT chatbot_detach('page', delete_embeddings => true);

\echo '--- A page goes, then the chatbot.'
SELECT status, deleted_count FROM chatbot_delete_source(1, 'document', :longest);
SELECT * FROM chatbot_cleanup(1);
