-- The end of the script, after every function exists: revokes everything from PUBLIC and comments on each object.

DO $$
DECLARE
    f regprocedure;
BEGIN
    FOR f IN
        SELECT d.objid::regprocedure
        FROM pg_catalog.pg_depend d
        JOIN pg_catalog.pg_extension e ON d.refobjid = e.oid AND e.extname = 'chatbot_sync'
        WHERE d.classid = 'pg_catalog.pg_proc'::regclass AND d.refclassid = 'pg_catalog.pg_extension'::regclass
            AND d.deptype = 'e'
    LOOP
        EXECUTE pg_catalog.format('REVOKE ALL ON ROUTINE %s FROM PUBLIC', f);
    END LOOP;
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

COMMENT ON SCHEMA chatbot_sync IS 'Tables of the extension chatbot_sync: use its functions chatbot_*() to write to them.';

COMMENT ON TABLE chatbot_sync.model IS 'What vectors are made with: provider, model, dimensions and prefixes. One is active.';
COMMENT ON COLUMN chatbot_sync.model.shortened IS 'The provider is asked for this many dimensions, which are not the model''s own.';
COMMENT ON COLUMN chatbot_sync.model.document_prefix IS 'Put before a chunk when it is embedded.';
COMMENT ON COLUMN chatbot_sync.model.query_prefix IS 'Put before a query when it is embedded.';
COMMENT ON COLUMN chatbot_sync.model.next IS 'chatbot_reembed() makes its vectors, and then it becomes the active one.';
COMMENT ON COLUMN chatbot_sync.model.replaced IS 'The model that was active before it.';
COMMENT ON COLUMN chatbot_sync.model.indexed IS 'It should have indexes, as chatbot_create_index() said; chatbot_sync.model_index says whether it has.';
COMMENT ON COLUMN chatbot_sync.model.index_error IS 'Why they could not be made.';
COMMENT ON COLUMN chatbot_sync.model.active IS 'New vectors are made with it, and searches use it.';
COMMENT ON COLUMN chatbot_sync.model.text_weight IS 'What words count for in a hybrid search, from 0 to 1; similarity counts for the rest. It is chosen with the model, as measured for it, and may be updated.';
COMMENT ON COLUMN chatbot_sync.model.bytes_per_second IS 'How fast one session of this server has turned texts into stored vectors, as bytes of text: a moving figure of workers, chatbot_sync_all(), chatbot_process_queue() and chatbot_reembed(). NULL where none has done much yet.';

COMMENT ON TABLE chatbot_sync.source_type IS 'The kinds of source. document and link are there from the start; chatbot_add_source_type() adds others.';
COMMENT ON TABLE chatbot_sync.source IS 'One row for each source, as a document or a link, that a chatbot knows.';
COMMENT ON COLUMN chatbot_sync.source.chatbot_id IS 'The tenant.';
COMMENT ON COLUMN chatbot_sync.source.source_type IS 'Its kind, one of chatbot_sync.source_type.';
COMMENT ON COLUMN chatbot_sync.source.status IS 'synced: the vectors are those of the content; pending: they will be; error: see error and error_code.';
COMMENT ON COLUMN chatbot_sync.source.error_code IS 'SQLSTATE of the last failure. On a source that is synced: of what its row did not take, or 01000, a warning, which error says: a chunk that is longer than the model takes was embedded in parts.';
COMMENT ON COLUMN chatbot_sync.source.attempts IS 'Failed attempts since the last success.';
COMMENT ON COLUMN chatbot_sync.source.next_attempt_at IS 'Not tried before; NULL where it is not tried again by itself.';
COMMENT ON COLUMN chatbot_sync.source.truncated IS 'The content went on after chatbot_sync.max_chunks chunks: the rest is not searched.';
COMMENT ON COLUMN chatbot_sync.source.host IS 'The host table that it comes from, as in chatbot_sync.host_table; NULL for one that chatbot_embed_source() was given.';
COMMENT ON COLUMN chatbot_sync.source.enabled IS 'Whether searches find it.';
COMMENT ON COLUMN chatbot_sync.source.next_model_id IS 'A model that has a vector for every chunk that it has now: the one that is to follow, or the last one that was, and then the one before it has them too.';
COMMENT ON COLUMN chatbot_sync.source.text_search_configs IS 'The text search configurations that its words were read with.';
COMMENT ON COLUMN chatbot_sync.source.lang IS 'Its language: what the metadata say, or what was detected, und where that failed; of a translated one the most common. NULL where chatbot_sync.text_search_config names a configuration.';
COMMENT ON COLUMN chatbot_sync.source.content_hash IS 'sha256(convert_to(content, ''UTF8'')) of what the vectors were made from, where there are several content columns of all of them; then eight bytes for the title, where there is one.';
COMMENT ON COLUMN chatbot_sync.source.chunking IS 'Version of the chunker, chunk size, overlap and limit that the chunks were made with, how the content was read (1: HTML, 2: translated), and the version of the reader of its words (0: they are to be read anew).';

COMMENT ON TABLE chatbot_sync.embedding IS 'One row for each chunk and model: the text, where it stands in the source, and its vector.';
COMMENT ON COLUMN chatbot_sync.embedding.chunk_id IS 'Stays with a chunk when an edit before it moves it.';
COMMENT ON COLUMN chatbot_sync.embedding.chunk_index IS 'Place in the source, from 0.';
COMMENT ON COLUMN chatbot_sync.embedding.start_offset IS 'First character in the source, from 0.';
COMMENT ON COLUMN chatbot_sync.embedding.end_offset IS 'The character after the last.';
COMMENT ON COLUMN chatbot_sync.embedding.enabled IS 'Whether searches find it.';
COMMENT ON COLUMN chatbot_sync.embedding.words IS 'The words of the title and of the text, for searches by words.';
COMMENT ON COLUMN chatbot_sync.embedding.lang IS 'Its language, where the source''s content is translated.';
COMMENT ON COLUMN chatbot_sync.embedding.metadata IS 'The source''s metadata, and lang where the content is translated; title in that language.';

COMMENT ON TABLE chatbot_sync.sync_log IS 'What each sync that cut a text took, and those that failed: kept for chatbot_sync.log_retention. Nothing depends on it.';
COMMENT ON COLUMN chatbot_sync.sync_log.error_code IS 'SQLSTATE of what went wrong; NULL where all went well.';
COMMENT ON COLUMN chatbot_sync.sync_log.chunks IS 'Chunks that the source has.';
COMMENT ON COLUMN chatbot_sync.sync_log.embedded IS 'Of those, how many were embedded; the others kept their vectors.';
COMMENT ON COLUMN chatbot_sync.sync_log.requests IS 'Requests to the provider, repeated ones counted again.';
COMMENT ON COLUMN chatbot_sync.sync_log.inputs IS 'Texts in them.';
COMMENT ON COLUMN chatbot_sync.sync_log.tokens IS 'As the provider counts; 0 where it does not say.';
COMMENT ON COLUMN chatbot_sync.sync_log.chunking_ms IS 'Milliseconds for cutting the text and comparing it with what is stored.';
COMMENT ON COLUMN chatbot_sync.sync_log.embedding_ms IS 'Milliseconds until its last vector was there. Sources of one statement wait together.';
COMMENT ON COLUMN chatbot_sync.sync_log.storing_ms IS 'Milliseconds for storing it, and what was stored with it.';
COMMENT ON COLUMN chatbot_sync.sync_log.total_ms IS 'Milliseconds in all.';
COMMENT ON TABLE chatbot_sync.sync_total IS 'What the rows came to that chatbot_sync.sync_log has no more.';

COMMENT ON TABLE chatbot_sync.session IS 'Conversations with a chatbot.';
COMMENT ON COLUMN chatbot_sync.session.id IS 'UUID version 8: 64 bits are the chatbot''s id, 58 are random.';
COMMENT ON TABLE chatbot_sync.message IS 'What was said in a conversation.';

COMMENT ON FUNCTION chatbot_embed_source IS 'Chunks and embeds a source and stores the vectors, in this transaction; embeds only what changed.';
COMMENT ON FUNCTION chatbot_delete_source IS 'Forgets a source and its vectors.';
COMMENT ON FUNCTION chatbot_cleanup IS 'Forgets everything about a chatbot: sources, vectors and sessions.';
COMMENT ON FUNCTION chatbot_add_source_type IS 'Adds a kind of source: false where it is there already.';
COMMENT ON FUNCTION chatbot_drop_source_type IS 'Drops a kind that no attached table, source or job is of.';
COMMENT ON FUNCTION chatbot_set_model IS 'Chooses the model that vectors are made with.';
COMMENT ON FUNCTION chatbot_embed IS 'The vector of a text, as a document or as a query.';
COMMENT ON FUNCTION chatbot_chunk IS 'How a text is cut into chunks.';
COMMENT ON FUNCTION chatbot_search IS 'The chunks of a chatbot that answer a query best, by meaning, by words, or both.';
COMMENT ON FUNCTION chatbot_session_open IS 'Opens a conversation with a chatbot.';
COMMENT ON FUNCTION chatbot_session_add_message IS 'Adds a message to a conversation.';
COMMENT ON FUNCTION chatbot_session_messages IS 'The messages of a conversation, oldest first; with max_messages the latest ones.';
COMMENT ON FUNCTION chatbot_session_close IS 'Closes a conversation; false if it was closed or there is none.';
COMMENT ON FUNCTION chatbot_grant IS 'Gives a role exactly the rights of a level: app, read or admin.';
COMMENT ON FUNCTION chatbot_revoke IS 'Takes from a role all that chatbot_grant() gave.';
COMMENT ON FUNCTION chatbot_sync.functions_of_level IS 'The functions of a level of chatbot_grant().';
COMMENT ON FUNCTION chatbot_sync.schemas_of_functions IS 'The schemas that chatbot_grant() has to open.';

COMMENT ON FUNCTION chatbot_attach IS 'From now on the rows of a table are sources, embedded by the statements that write them.';
COMMENT ON FUNCTION chatbot_attach_chatbots IS 'From now on deleting a row of a table forgets everything about that chatbot.';
COMMENT ON FUNCTION chatbot_detach IS 'The rows of a table are no sources any more, of all chatbots or of one.';
COMMENT ON PROCEDURE chatbot_sync_all IS 'Embeds every row of attached tables that is pending or in error, and with refresh those that other settings have cut or read; commits batch by batch.';
COMMENT ON VIEW chatbot_sync.host_table IS 'The tables that are attached, as their triggers say.';
COMMENT ON VIEW chatbot_sync.progress IS 'How many sources of each chatbot are synced, pending, in work or failed, how fast it goes, and when it will be done.';
COMMENT ON SEQUENCE chatbot_sync.host_id IS 'Numbers of host tables.';
COMMENT ON FUNCTION chatbot_sync.host_changed IS 'Trigger of host tables, made by chatbot_attach().';
COMMENT ON FUNCTION chatbot_sync.host_status IS 'Trigger of host tables whose rows are told their status: BEFORE a row is written it says what the row will be if all goes well, which RETURNING shows. What failed is written afterwards.';
COMMENT ON COLUMN chatbot_sync.host_table.condition IS 'What a row has to fulfil to be found, as Postgres writes it.';
COMMENT ON COLUMN chatbot_sync.host_table.chatbot_id IS 'The chatbot of all rows, where no column has it.';
COMMENT ON COLUMN chatbot_sync.host_table.status_column IS 'Has the status of each row when the statement that wrote it has ended. RETURNING of that statement shows what is expected, synced, whatever the provider answers.';
COMMENT ON FUNCTION chatbot_sync.host_truncated IS 'Trigger of host tables.';
COMMENT ON FUNCTION chatbot_sync.chatbots_deleted IS 'Trigger of tables of chatbots, made by chatbot_attach_chatbots().';
COMMENT ON FUNCTION chatbot_sync.table_altered IS 'Follows a change of a table.';
COMMENT ON FUNCTION chatbot_sync.table_rewritten IS 'Remembers that a statement writes a table anew.';
COMMENT ON FUNCTION chatbot_sync.rows_rewritten IS 'Follows rows that were written anew, and types that were altered.';
COMMENT ON FUNCTION chatbot_sync.triggers_restored IS 'Follows the creation of the extension''s triggers by hand, as by a restore.';
COMMENT ON FUNCTION chatbot_sync.tables_dropped IS 'Follows the end of host tables.';
COMMENT ON FUNCTION chatbot_sync.register_existing_rows IS 'Rows of host tables that nobody knows become pending sources.';
COMMENT ON FUNCTION chatbot_sync.sync_batch IS 'A step of chatbot_sync_all().';
COMMENT ON FUNCTION chatbot_sync.refresh_batch IS 'A step of chatbot_sync_all(refresh => true).';
COMMENT ON FUNCTION chatbot_sync.model_languages IS 'The languages that a built-in model knows, by their ISO 639-1 codes; NULL for other models.';
COMMENT ON FUNCTION chatbot_sync.outdated_sources IS 'How many sources were cut or read with other settings than the session''s.';
COMMENT ON FUNCTION chatbot_sync.reread_words IS 'Reads the words of one source anew, from its chunks.';
COMMENT ON FUNCTION chatbot_sync.in_transaction_block IS 'Whether nothing can be committed: BEGIN was said, or a function calls.';
COMMENT ON FUNCTION chatbot_sync.after_ddl IS 'Follows changes of host tables.';
COMMENT ON FUNCTION chatbot_sync.after_drop IS 'Follows the end of host tables and of their columns.';
COMMENT ON FUNCTION chatbot_sync.after_rewrite IS 'Follows tables that are written anew.';
COMMENT ON FUNCTION chatbot_sync.after_text_search IS 'Follows changes of text search configurations and dictionaries.';
COMMENT ON FUNCTION chatbot_sync.mark_words_outdated IS 'The words that a text search configuration has read are to be read anew.';
COMMENT ON EVENT TRIGGER chatbot_sync_rewrite IS 'Follows host tables that are written anew.';
COMMENT ON EVENT TRIGGER chatbot_sync_text_search IS 'Follows changes of text search configurations and dictionaries.';
COMMENT ON FUNCTION chatbot_sync.after_update IS 'Gives roles their level again after ALTER EXTENSION ... UPDATE.';
COMMENT ON EVENT TRIGGER chatbot_sync_update IS 'Gives roles their level again after ALTER EXTENSION ... UPDATE.';
COMMENT ON EVENT TRIGGER chatbot_sync_ddl IS 'Follows changes of host tables.';
COMMENT ON EVENT TRIGGER chatbot_sync_drop IS 'Follows the end of host tables and of their columns.';

COMMENT ON FUNCTION chatbot_enqueue_source IS 'Has a source embedded after this transaction: the id of its job.';
COMMENT ON FUNCTION chatbot_retry IS 'Sources in error are tried again: how many.';
COMMENT ON PROCEDURE chatbot_process_queue IS 'Embeds what waits in the queue and is due.';
COMMENT ON FUNCTION chatbot_sync.queue_claim IS 'A step of chatbot_process_queue().';
COMMENT ON FUNCTION chatbot_sync.queue_embed IS 'A step of chatbot_process_queue().';
COMMENT ON FUNCTION chatbot_sync.queue_store IS 'A step of chatbot_process_queue().';
COMMENT ON FUNCTION chatbot_sync.queue_write_status IS 'A step of chatbot_process_queue().';
COMMENT ON TABLE chatbot_sync.job IS 'Sources that wait for the queue.';
COMMENT ON COLUMN chatbot_sync.job.due_at IS 'Not looked at before: later while somebody works on it, infinity where only chatbot_retry() helps.';
COMMENT ON COLUMN chatbot_sync.job.lease IS 'Who works on it: a number of one claim.';
COMMENT ON COLUMN chatbot_sync.job.leased_by IS 'Who works on it: the process.';
COMMENT ON COLUMN chatbot_sync.job.host IS 'The host table that has the content.';
COMMENT ON COLUMN chatbot_sync.job.from_chatbot_id IS 'The chatbot that the source belonged to before.';
COMMENT ON COLUMN chatbot_sync.job.from_source_id IS 'The id that the source had before.';
COMMENT ON COLUMN chatbot_sync.job.priority IS 'The highest first.';
COMMENT ON COLUMN chatbot_sync.job.content IS 'The text, of sources that no host table has.';
COMMENT ON COLUMN chatbot_sync.job.metadata IS 'The metadata, of sources that no host table has.';

COMMENT ON PROCEDURE chatbot_reembed(int) IS 'Makes the vectors of the model that chatbot_set_model() named, and then lets it answer.';
COMMENT ON PROCEDURE chatbot_reembed(boolean, int) IS 'The same; with skip_errors the model answers without the sources whose texts its provider refuses.';
COMMENT ON PROCEDURE chatbot_drop_model IS 'Forgets a model that does not answer, and its vectors.';
COMMENT ON PROCEDURE chatbot_create_index IS 'Makes the indexes that searches of large chatbots use, while others read and write.';
COMMENT ON FUNCTION chatbot_drop_index IS 'Takes the indexes of a model away.';
COMMENT ON VIEW chatbot_sync.model_index IS 'The indexes of each model: whether they should be there, and are.';
COMMENT ON FUNCTION chatbot_sync.needs_index IS 'The first step of chatbot_create_index().';
COMMENT ON FUNCTION chatbot_sync.index_build IS 'Makes the indexes of a model in this transaction.';
COMMENT ON FUNCTION chatbot_sync.measure_recall_of_bits IS 'The share of the nearest chunks that bits find, in a sample.';
COMMENT ON FUNCTION chatbot_sync.default_quantization IS 'The quantization of a model''s index where none is asked for.';
COMMENT ON FUNCTION chatbot_sync.has_half_type IS 'Whether pgvector has halves and bits.';
COMMENT ON FUNCTION chatbot_sync.index_bytes IS 'Bytes of an index for each chunk.';
COMMENT ON FUNCTION chatbot_sync.check_index_memory IS 'Checks of chatbot_doctor().';
COMMENT ON COLUMN chatbot_sync.model.quantization IS 'What its index of vectors has of each: none, half, binary; NULL: none was made since there is a choice.';
COMMENT ON FUNCTION chatbot_sync.index_start IS 'A step of chatbot_create_index().';
COMMENT ON FUNCTION chatbot_sync.index_step IS 'A step of chatbot_create_index().';
COMMENT ON FUNCTION chatbot_estimate IS 'What a sync, or a change of the model, would send to the provider, and how long it would take: sends nothing.';
COMMENT ON FUNCTION chatbot_sync.reembed_begin IS 'The first step of chatbot_reembed().';
COMMENT ON FUNCTION chatbot_sync.reembed_batch IS 'A step of chatbot_reembed().';
COMMENT ON FUNCTION chatbot_sync.swap_model IS 'The last step of chatbot_reembed().';

COMMENT ON FUNCTION chatbot_doctor IS 'What is not as it should be with the set-up, and what to do: it asks the provider for one vector.';
COMMENT ON FUNCTION chatbot_sync.check_version IS 'Checks of chatbot_doctor().';
COMMENT ON FUNCTION chatbot_sync.check_workers IS 'Checks of chatbot_doctor().';
COMMENT ON FUNCTION chatbot_sync.check_sources IS 'Checks of chatbot_doctor().';
COMMENT ON FUNCTION chatbot_sync.check_hosts IS 'Checks of chatbot_doctor().';
COMMENT ON FUNCTION chatbot_sync.check_backup IS 'Checks of chatbot_doctor().';
COMMENT ON FUNCTION chatbot_sync.check_queue IS 'Checks of chatbot_doctor().';
COMMENT ON FUNCTION chatbot_sync.check_row_security IS 'Checks of chatbot_doctor().';
COMMENT ON FUNCTION chatbot_sync.check_database IS 'Checks of chatbot_doctor().';
COMMENT ON FUNCTION chatbot_sync.check_roles IS 'Checks of chatbot_doctor().';
COMMENT ON FUNCTION chatbot_sync.check_keys IS 'Checks of chatbot_doctor().';
COMMENT ON FUNCTION chatbot_sync.check_triggers IS 'Checks of chatbot_doctor().';
COMMENT ON FUNCTION chatbot_sync.is_enabled IS 'Whether this session may embed: chatbot_sync.enabled.';
COMMENT ON FUNCTION chatbot_sync.views_as_caller IS 'Whether policies on the tables hold for whoever asks the views.';
COMMENT ON FUNCTION chatbot_verify IS 'What is stored and cannot be right, compared with every row of every host table.';
COMMENT ON FUNCTION chatbot_repair IS 'Takes away what chatbot_verify() finds, or has it embedded again: how many problems there were.';
COMMENT ON FUNCTION chatbot_metrics IS 'Figures for monitoring, with Prometheus'' names and units.';
COMMENT ON FUNCTION chatbot_sync.lacks_worker_process IS 'Whether a worker could not be started, since all of max_worker_processes are in use.';
COMMENT ON FUNCTION chatbot_sync.rolled_back IS 'What syncs took whose transaction rolled back, since the server started; nothing where the library is not preloaded.';
COMMENT ON FUNCTION chatbot_sync.is_preloaded IS 'Whether there can be workers.';
COMMENT ON VIEW chatbot_sync.source_status IS 'Each source with its status, why it is so, and how old its vectors are.';
COMMENT ON FUNCTION chatbot_distribute IS 'Spreads the tables that grow over the nodes of Citus, by chatbot.';
COMMENT ON FUNCTION chatbot_undistribute IS 'Brings them back to this node.';
COMMENT ON FUNCTION chatbot_sync.growing_tables IS 'The tables that chatbot_distribute() spreads.';
COMMENT ON FUNCTION chatbot_sync.is_distributed IS 'Whether Citus has our tables.';
COMMENT ON FUNCTION chatbot_sync.drop_vectors IS 'A step of chatbot_drop_model().';
COMMENT ON FUNCTION chatbot_sync.drop_model_file IS 'A step of chatbot_drop_model().';
COMMENT ON FUNCTION chatbot_sync.check_local_models IS 'Checks of chatbot_doctor().';
COMMENT ON FUNCTION chatbot_sync.in_each_shard IS 'What a query says of a table, or of each of its shards.';
COMMENT ON FUNCTION chatbot_sync.save_and_drop_indexes IS 'Drops the indexes of models while rows move: which models had some.';
COMMENT ON FUNCTION chatbot_sync.recreate_indexes IS 'Makes them again.';
COMMENT ON FUNCTION chatbot_sync.search_in IS 'What chatbot_search() asks of the node that has the chatbot, where Citus has the tables.';
COMMENT ON FUNCTION chatbot_sync.require_citus IS 'Fails where there is no Citus that would do.';
COMMENT ON FUNCTION chatbot_sync.run_on_nodes IS 'Runs a statement on each worker node.';
COMMENT ON FUNCTION chatbot_sync.act_as_owner IS 'Lets functions write as triggers do, as the owner, or not any more.';
COMMENT ON FUNCTION chatbot_sync.count_pending IS 'A step of chatbot_sync_all().';
COMMENT ON FUNCTION chatbot_sync.grant_on_nodes IS 'What chatbot_grant() does on worker nodes.';
COMMENT ON FUNCTION chatbot_sync.roles_with_level IS 'The roles that have a level.';
COMMENT ON FUNCTION chatbot_sync.doctor_of_nodes IS 'What chatbot_doctor() says of worker nodes.';
COMMENT ON FUNCTION chatbot_sync.alter_chunks IS 'Changes the table of chunks, and its shards.';
COMMENT ON FUNCTION chatbot_sync.set_row_layout IS 'Where vectors and texts are stored, which depends on the length of vectors.';
COMMENT ON FUNCTION chatbot_sync.add_half_column IS 'Adds the column of vectors in half precision, where pgvector has the type.';

COMMENT ON VIEW chatbot_sync.stats IS 'What the syncs in sync_log took, by chatbot and model, and what waits.';
COMMENT ON FUNCTION chatbot_sync.purge_log IS 'Takes away rows of sync_log that are older than chatbot_sync.log_retention, some at a time: whether there are more.';
COMMENT ON FUNCTION chatbot_sync.purge_log_batch IS 'As chatbot_sync.purge_log().';

-- Roles that monitor the server may read metrics and states of the extension, but no texts. pg_stat_activity shows them
-- more.
GRANT USAGE ON SCHEMA chatbot_sync TO pg_monitor;
GRANT SELECT ON chatbot_sync.source_status, chatbot_sync.progress, chatbot_sync.stats, chatbot_sync.host_table,
    chatbot_sync.model, chatbot_sync.sync_log, chatbot_sync.sync_total TO pg_monitor;
-- The columns that the views read with the rights of the caller.
GRANT SELECT (chatbot_id, source_type, source_id, status, error, error_code, attempts, next_attempt_at, chunk_count, truncated, enabled,
    synced_at) ON chatbot_sync.source TO pg_monitor;
GRANT SELECT (chatbot_id, source_type, source_id, due_at, created_at, leased_by) ON chatbot_sync.job TO pg_monitor;
GRANT EXECUTE ON FUNCTION chatbot_metrics(), chatbot_doctor() TO pg_monitor;
