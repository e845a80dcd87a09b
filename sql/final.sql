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

COMMENT ON TABLE chatbot_sync.model IS 'The models that vectors are made with: provider, model, dimensions and prefixes. One is active.';
COMMENT ON COLUMN chatbot_sync.model.shortened IS 'The provider is asked for this many dimensions, which are not the model''s own.';
COMMENT ON COLUMN chatbot_sync.model.document_prefix IS 'Put before a chunk when it is embedded.';
COMMENT ON COLUMN chatbot_sync.model.query_prefix IS 'Put before a query when it is embedded.';
COMMENT ON COLUMN chatbot_sync.model.next IS 'chatbot_reembed() makes its vectors, and then it becomes the active one.';
COMMENT ON COLUMN chatbot_sync.model.replaced IS 'The model that was active before it.';
COMMENT ON COLUMN chatbot_sync.model.indexed IS 'It should have indexes, as chatbot_create_index() said; chatbot_sync.model_index says whether it has.';
COMMENT ON COLUMN chatbot_sync.model.index_error IS 'Why its indexes could not be built.';
COMMENT ON COLUMN chatbot_sync.model.active IS 'New vectors are made with it, and searches use it.';
COMMENT ON COLUMN chatbot_sync.model.text_weight IS 'What words count for in a hybrid search, from 0 to 1; similarity counts for the rest. It is chosen with the model, as measured for it, and may be updated.';
COMMENT ON COLUMN chatbot_sync.model.bytes_per_second IS 'How fast one session of this server has turned texts into stored vectors, as bytes of text: a moving figure of workers, chatbot_sync_all(), chatbot_process_queue() and chatbot_reembed(). NULL where none has done much yet.';

COMMENT ON TABLE chatbot_sync.source_type IS 'The kinds of source. document and link are there from the start; chatbot_add_source_type() adds others.';
COMMENT ON TABLE chatbot_sync.source IS 'One row for each source, as a document or a link, that a chatbot knows.';
COMMENT ON COLUMN chatbot_sync.source.chatbot_id IS 'The tenant.';
COMMENT ON COLUMN chatbot_sync.source.source_type IS 'Its kind, one of chatbot_sync.source_type.';
COMMENT ON COLUMN chatbot_sync.source.status IS 'synced: the vectors are those of the content; pending: they will be; error: see error and error_code.';
COMMENT ON COLUMN chatbot_sync.source.error_code IS 'The SQLSTATE of the last failure. On a synced source: why its row refused its status; or 01000, a warning that error explains, as where a chunk that is longer than the model takes was embedded in parts.';
COMMENT ON COLUMN chatbot_sync.source.attempts IS 'Failed attempts since the last success.';
COMMENT ON COLUMN chatbot_sync.source.next_attempt_at IS 'When it is tried again; NULL where it is not tried again by itself.';
COMMENT ON COLUMN chatbot_sync.source.truncated IS 'Whether the content has more than chatbot_sync.max_chunks chunks, so that the rest is not searched.';
COMMENT ON COLUMN chatbot_sync.source.host IS 'The host table that it comes from, as in chatbot_sync.host_table; NULL where chatbot_embed_source() or chatbot_enqueue_source() stored it.';
COMMENT ON COLUMN chatbot_sync.source.enabled IS 'Whether searches find it.';
COMMENT ON COLUMN chatbot_sync.source.next_model_id IS 'A model that has a vector for every chunk that it has now: the one that is to follow, or the last one that was, and then the one before it has them too.';
COMMENT ON COLUMN chatbot_sync.source.text_search_configs IS 'The text search configurations that its words were read with.';
COMMENT ON COLUMN chatbot_sync.source.lang IS 'Its language: as its metadata says or as it was detected, und where that failed; of a translated source the most common one. NULL where chatbot_sync.text_search_config names a configuration.';
COMMENT ON COLUMN chatbot_sync.source.content_hash IS 'sha256(convert_to(content, ''UTF8'')) of what the vectors were made from, where there are several content columns of all of them; then eight bytes for the title, where there is one.';
COMMENT ON COLUMN chatbot_sync.source.chunking IS 'The version of the chunker, chunk size, overlap and limit that the chunks were made with, how the content was read (1: HTML, 2: translated), and the version of the code that read its words (0: they are to be read again).';

COMMENT ON TABLE chatbot_sync.embedding IS 'One row for each chunk and model: the text, its place in the source, and its vector.';
COMMENT ON COLUMN chatbot_sync.embedding.chunk_id IS 'The number of the chunk, which stays the same when an edit before the chunk moves it.';
COMMENT ON COLUMN chatbot_sync.embedding.chunk_index IS 'Place in the source, from 0.';
COMMENT ON COLUMN chatbot_sync.embedding.start_offset IS 'First character in the source, from 0.';
COMMENT ON COLUMN chatbot_sync.embedding.end_offset IS 'The character after the last.';
COMMENT ON COLUMN chatbot_sync.embedding.enabled IS 'Whether searches find it.';
COMMENT ON COLUMN chatbot_sync.embedding.words IS 'The words of the title and of the text, for searches by words.';
COMMENT ON COLUMN chatbot_sync.embedding.lang IS 'Its language, where the source''s content is translated.';
COMMENT ON COLUMN chatbot_sync.embedding.metadata IS 'The metadata of the source; of a translated source with lang, and with the title in that language.';

COMMENT ON TABLE chatbot_sync.sync_log IS 'One row for each sync that chunked a text, also for those that failed, kept for chatbot_sync.log_retention. Nothing depends on it.';
COMMENT ON COLUMN chatbot_sync.sync_log.error_code IS 'The SQLSTATE that the sync failed with; NULL where it succeeded.';
COMMENT ON COLUMN chatbot_sync.sync_log.chunks IS 'Chunks that the source has.';
COMMENT ON COLUMN chatbot_sync.sync_log.embedded IS 'The number of these chunks that were embedded; the others kept their vectors.';
COMMENT ON COLUMN chatbot_sync.sync_log.requests IS 'Requests to the provider, repeated ones counted again.';
COMMENT ON COLUMN chatbot_sync.sync_log.inputs IS 'Texts in these requests.';
COMMENT ON COLUMN chatbot_sync.sync_log.tokens IS 'Tokens as the provider counts them; 0 where it does not say.';
COMMENT ON COLUMN chatbot_sync.sync_log.chunking_ms IS 'Milliseconds for chunking the text and comparing the chunks with those that are stored.';
COMMENT ON COLUMN chatbot_sync.sync_log.embedding_ms IS 'Milliseconds until its last vector had arrived. Sources of one statement wait together.';
COMMENT ON COLUMN chatbot_sync.sync_log.storing_ms IS 'Milliseconds for storing it, and what was stored with it.';
COMMENT ON COLUMN chatbot_sync.sync_log.total_ms IS 'Milliseconds in all.';
COMMENT ON TABLE chatbot_sync.sync_total IS 'Sums of the rows that were deleted from chatbot_sync.sync_log.';

COMMENT ON TABLE chatbot_sync.session IS 'Conversations with a chatbot.';
COMMENT ON COLUMN chatbot_sync.session.id IS 'UUID version 8: 64 bits are the chatbot''s id, 58 are random.';
COMMENT ON TABLE chatbot_sync.message IS 'The messages of sessions.';

COMMENT ON FUNCTION chatbot_embed_source IS 'Chunks and embeds a source and stores the vectors, in this transaction; embeds only what changed.';
COMMENT ON FUNCTION chatbot_delete_source IS 'Deletes a source with its vectors and jobs.';
COMMENT ON FUNCTION chatbot_cleanup IS 'Deletes the sources, vectors, jobs and sessions of a chatbot.';
COMMENT ON FUNCTION chatbot_add_source_type IS 'Adds a kind of source; returns false where it is there already.';
COMMENT ON FUNCTION chatbot_drop_source_type IS 'Drops a kind that no attached table, source or job is of.';
COMMENT ON FUNCTION chatbot_set_model IS 'Chooses the model that vectors are made with.';
COMMENT ON FUNCTION chatbot_embed IS 'Returns the vector of a text, as a document or as a query.';
COMMENT ON FUNCTION chatbot_chunk IS 'Returns the chunks that a text would be cut into.';
COMMENT ON FUNCTION chatbot_search IS 'Returns the chunks of a chatbot that match a query best, by meaning, by words, or both.';
COMMENT ON FUNCTION chatbot_session_open IS 'Opens a conversation with a chatbot.';
COMMENT ON FUNCTION chatbot_session_add_message IS 'Adds a message to a conversation.';
COMMENT ON FUNCTION chatbot_session_messages IS 'Returns the messages of a conversation, oldest first; with max_messages the latest ones.';
COMMENT ON FUNCTION chatbot_session_close IS 'Closes a conversation; returns false where it is closed already, or there is none.';
COMMENT ON FUNCTION chatbot_grant IS 'Gives a role exactly the rights of a level: app, read or admin.';
COMMENT ON FUNCTION chatbot_revoke IS 'Takes back from a role what chatbot_grant() gave it.';
COMMENT ON FUNCTION chatbot_sync.functions_of_level IS 'Returns the functions that a level of chatbot_grant() may call.';
COMMENT ON FUNCTION chatbot_sync.schemas_of_functions IS 'Returns the schemas that chatbot_grant() has to let a role use.';

COMMENT ON FUNCTION chatbot_attach IS 'Makes the rows of a table sources: from then on, the statements that write them embed them, or in mode async queue them.';
COMMENT ON FUNCTION chatbot_attach_chatbots IS 'Attaches a table of chatbots: deleting one of its rows deletes everything that belongs to the chatbot.';
COMMENT ON FUNCTION chatbot_detach IS 'Detaches a table, from all chatbots or from one: its rows are no sources any more.';
COMMENT ON PROCEDURE chatbot_sync_all IS 'Embeds every row of attached tables that is pending or in error, and with refresh those that were chunked or read with other settings; commits batch by batch.';
COMMENT ON VIEW chatbot_sync.host_table IS 'The tables that are attached, as their triggers say.';
COMMENT ON VIEW chatbot_sync.progress IS 'How many sources of each chatbot are synced, pending, in work or failed, how fast it goes, and when it will be done.';
COMMENT ON SEQUENCE chatbot_sync.host_id IS 'Numbers of host tables.';
COMMENT ON FUNCTION chatbot_sync.host_changed IS 'Trigger of host tables: syncs or queues the sources of the rows that a statement wrote.';
COMMENT ON FUNCTION chatbot_sync.host_status IS 'Trigger of host tables with status columns: before a row is written, it writes the status that the row will have if all goes well, which RETURNING shows. A failure is written after the statement.';
COMMENT ON COLUMN chatbot_sync.host_table.condition IS 'The condition that a row has to fulfil to be found, as Postgres writes it.';
COMMENT ON COLUMN chatbot_sync.host_table.chatbot_id IS 'The chatbot that all rows belong to; NULL where chatbot_column has it.';
COMMENT ON COLUMN chatbot_sync.host_table.status_column IS 'Has the status of each row when the statement that wrote it has ended. RETURNING of that statement shows what is expected, synced, whatever the provider answers.';
COMMENT ON FUNCTION chatbot_sync.host_truncated IS 'Trigger of host tables: TRUNCATE deletes the sources of the rows.';
COMMENT ON FUNCTION chatbot_sync.chatbots_deleted IS 'Trigger of tables of chatbots: deletes everything that belongs to the chatbots whose rows a statement deleted.';
COMMENT ON FUNCTION chatbot_sync.follow_alter_table IS 'Follows ALTER TABLE of a host table: renamed and dropped columns, new partitions, rows whose values changed.';
COMMENT ON FUNCTION chatbot_sync.note_table_rewrite IS 'Records that the running statement rewrites a table.';
COMMENT ON FUNCTION chatbot_sync.reconcile_rewritten_tables IS 'Compares rows with their sources after a statement that rewrote their table or altered a type of theirs.';
COMMENT ON FUNCTION chatbot_sync.follow_restored_triggers IS 'Follows a restore, which creates the extension''s triggers: writes the current numbers of the columns into them.';
COMMENT ON FUNCTION chatbot_sync.delete_sources_of_dropped_tables IS 'Deletes the sources of host tables that were dropped.';
COMMENT ON FUNCTION chatbot_sync.register_existing_rows IS 'Registers the rows of host tables that are no sources yet as pending ones.';
COMMENT ON FUNCTION chatbot_sync.sync_batch IS 'Syncs one batch of sources: a step of chatbot_sync_all().';
COMMENT ON FUNCTION chatbot_sync.refresh_batch IS 'Compares one batch of sources with the session''s settings: a step of chatbot_sync_all(refresh => true).';
COMMENT ON FUNCTION chatbot_sync.model_languages IS 'The languages that a built-in model knows, by their ISO 639-1 codes; NULL for other models.';
COMMENT ON FUNCTION chatbot_sync.count_outdated_sources IS 'Counts the sources that were chunked or read with other settings than the session''s.';
COMMENT ON FUNCTION chatbot_sync.reread_words IS 'Reads the words of one source again, from its chunks.';
COMMENT ON FUNCTION chatbot_sync.in_transaction_block IS 'Whether a procedure cannot commit, since it was called after BEGIN or by a function.';
COMMENT ON FUNCTION chatbot_sync.after_ddl IS 'Follows CREATE and ALTER of host tables, of their triggers and of their types.';
COMMENT ON FUNCTION chatbot_sync.after_drop IS 'Follows DROP of host tables, of their columns, of the table of chatbots and of text search configurations.';
COMMENT ON FUNCTION chatbot_sync.after_rewrite IS 'Records which tables a statement rewrites.';
COMMENT ON FUNCTION chatbot_sync.after_text_search IS 'Follows changes of text search configurations and dictionaries.';
COMMENT ON FUNCTION chatbot_sync.mark_words_outdated IS 'Marks the sources whose words a text search configuration has read, so that they are read again.';
COMMENT ON EVENT TRIGGER chatbot_sync_rewrite IS 'Records which tables a statement rewrites.';
COMMENT ON EVENT TRIGGER chatbot_sync_text_search IS 'Follows changes of text search configurations and dictionaries.';
COMMENT ON FUNCTION chatbot_sync.after_update IS 'Gives roles their level again after ALTER EXTENSION ... UPDATE.';
COMMENT ON EVENT TRIGGER chatbot_sync_update IS 'Gives roles their level again after ALTER EXTENSION ... UPDATE.';
COMMENT ON EVENT TRIGGER chatbot_sync_ddl IS 'Follows CREATE and ALTER of host tables, of their triggers and of their types.';
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
COMMENT ON COLUMN chatbot_sync.job.from_chatbot_id IS 'The chatbot that the source belonged to before.';
COMMENT ON COLUMN chatbot_sync.job.from_source_id IS 'The id that the source had before.';
COMMENT ON COLUMN chatbot_sync.job.priority IS 'Jobs of the highest priority are claimed first.';
COMMENT ON COLUMN chatbot_sync.job.content IS 'The text of a source that comes from no host table.';
COMMENT ON COLUMN chatbot_sync.job.metadata IS 'The metadata of a source that comes from no host table.';

COMMENT ON PROCEDURE chatbot_reembed(int) IS 'Makes the vectors of the model that chatbot_set_model() named, and then makes it the active one.';
COMMENT ON PROCEDURE chatbot_reembed(boolean, int) IS 'As chatbot_reembed(batch); with skip_errors the model becomes active without the sources whose texts its provider refuses.';
COMMENT ON PROCEDURE chatbot_drop_model IS 'Deletes a model that is not the active one, with its vectors.';
COMMENT ON PROCEDURE chatbot_create_index IS 'Builds the indexes that searches of large chatbots use, while other sessions read and write.';
COMMENT ON FUNCTION chatbot_drop_index IS 'Drops the indexes of a model.';
COMMENT ON VIEW chatbot_sync.model_index IS 'The indexes of each model: whether they should be there, and are.';
COMMENT ON FUNCTION chatbot_sync.record_wanted_index IS 'Records which index a model should have: the first step of chatbot_create_index().';
COMMENT ON FUNCTION chatbot_sync.build_indexes IS 'Builds the indexes of a model in this transaction.';
COMMENT ON FUNCTION chatbot_sync.measure_recall_of_bits IS 'Measures the share of the nearest chunks that bits find, in a sample.';
COMMENT ON FUNCTION chatbot_sync.default_quantization IS 'Returns the quantization of a model''s index where none is asked for.';
COMMENT ON FUNCTION chatbot_sync.has_half_type IS 'Whether pgvector has vectors of halves and of bits.';
COMMENT ON FUNCTION chatbot_sync.index_bytes IS 'Estimates the bytes that an HNSW index takes for each chunk.';
COMMENT ON FUNCTION chatbot_sync.check_index_memory IS 'Checks of chatbot_doctor().';
COMMENT ON COLUMN chatbot_sync.model.quantization IS 'The form of its index of vectors: none (whole vectors), half or binary; NULL where no index was built since there is a choice.';
COMMENT ON FUNCTION chatbot_sync.start_index_build IS 'Starts the worker that builds the indexes of a model: a step of chatbot_create_index().';
COMMENT ON FUNCTION chatbot_sync.wait_for_index_build IS 'Waits up to 100 ms and returns what the worker does, NULL once it is done: a step of chatbot_create_index().';
COMMENT ON FUNCTION chatbot_estimate IS 'Estimates what a sync, or a change of the model, would send to the provider, and how long it would take; sends nothing.';
COMMENT ON FUNCTION chatbot_sync.reembed_begin IS 'Forgets the sources that were refused before: the first step of chatbot_reembed().';
COMMENT ON FUNCTION chatbot_sync.reembed_batch IS 'Embeds one batch of sources with the next model: a step of chatbot_reembed().';
COMMENT ON FUNCTION chatbot_sync.activate_next_model IS 'Makes the next model the active one: the last step of chatbot_reembed().';

COMMENT ON FUNCTION chatbot_doctor IS 'Checks the set-up, and says what to do about each problem; asks the provider for one vector.';
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
COMMENT ON FUNCTION chatbot_sync.run_views_as_caller IS 'Applies policies on the tables to the caller of the views, or to their owner.';
COMMENT ON FUNCTION chatbot_verify IS 'Compares what is stored with every row of every host table; returns one row for each problem.';
COMMENT ON FUNCTION chatbot_repair IS 'Repairs what chatbot_verify() finds, or has it embedded again; returns the number of problems.';
COMMENT ON FUNCTION chatbot_metrics IS 'Returns figures for monitoring, with Prometheus'' names and units.';
COMMENT ON FUNCTION chatbot_sync.lacks_worker_process IS 'Whether a worker could not be started, since all of max_worker_processes are in use.';
COMMENT ON FUNCTION chatbot_sync.rolled_back IS 'Returns what was used by syncs whose transaction rolled back, since the server started; no row where the library is not preloaded.';
COMMENT ON FUNCTION chatbot_sync.is_preloaded IS 'Whether the library is preloaded, without which there are no workers.';
COMMENT ON VIEW chatbot_sync.source_status IS 'Each source with its status, why it is so, and how old its vectors are.';
COMMENT ON FUNCTION chatbot_distribute IS 'Distributes the tables that grow over the nodes of Citus, by chatbot.';
COMMENT ON FUNCTION chatbot_undistribute IS 'Moves the distributed tables back to this node.';
COMMENT ON FUNCTION chatbot_sync.growing_tables IS 'Returns the tables that chatbot_distribute() distributes.';
COMMENT ON FUNCTION chatbot_sync.is_distributed IS 'Whether Citus distributes the extension''s tables.';
COMMENT ON FUNCTION chatbot_sync.drop_vectors IS 'Deletes some vectors of a model that was deleted: a step of chatbot_drop_model().';
COMMENT ON FUNCTION chatbot_sync.drop_model_file IS 'Removes the imported file of a model in a folder: a step of chatbot_drop_model().';
COMMENT ON FUNCTION chatbot_sync.check_local_models IS 'Checks of chatbot_doctor().';
COMMENT ON FUNCTION chatbot_sync.run_in_each_shard IS 'Runs a query on a table, or on each of its shards, and returns the results.';
COMMENT ON FUNCTION chatbot_sync.save_and_drop_indexes IS 'Drops the indexes of all models before rows are moved; returns the ids of the models that had some.';
COMMENT ON FUNCTION chatbot_sync.recreate_indexes IS 'Builds the indexes of models again after rows were moved.';
COMMENT ON FUNCTION chatbot_sync.search_in IS 'Runs the part of chatbot_search() that belongs to the node with the chatbot''s shards.';
COMMENT ON FUNCTION chatbot_sync.require_citus IS 'Fails unless this node is the coordinator of Citus 14.0 or later.';
COMMENT ON FUNCTION chatbot_sync.run_on_nodes IS 'Runs a statement on each worker node.';
COMMENT ON FUNCTION chatbot_sync.run_functions_as_owner IS 'Makes functions that write run as the owner of the extension, or as their caller.';
COMMENT ON FUNCTION chatbot_sync.count_pending IS 'Counts the sources that are to be synced: a step of chatbot_sync_all().';
COMMENT ON FUNCTION chatbot_sync.grant_on_nodes IS 'Grants or revokes the use of schemas on worker nodes: a step of chatbot_grant() and chatbot_revoke().';
COMMENT ON FUNCTION chatbot_sync.roles_with_level IS 'Returns the roles that have a level of chatbot_grant().';
COMMENT ON FUNCTION chatbot_sync.check_nodes IS 'Checks of chatbot_doctor() on worker nodes.';
COMMENT ON FUNCTION chatbot_sync.alter_chunks IS 'Changes the table of chunks, and its shards.';
COMMENT ON FUNCTION chatbot_sync.set_row_layout IS 'Chooses where vectors and texts are stored, by the length of vectors.';
COMMENT ON FUNCTION chatbot_sync.add_half_column IS 'Adds the column of vectors in half precision, where pgvector has the type.';

COMMENT ON VIEW chatbot_sync.stats IS 'Figures of the syncs in sync_log and of the sources that wait, by chatbot and model.';
COMMENT ON FUNCTION chatbot_sync.purge_log IS 'Deletes some rows of sync_log that are past chatbot_sync.log_retention; returns whether there may be more.';
COMMENT ON FUNCTION chatbot_sync.purge_log_batch IS 'Deletes up to so many rows of sync_log that are past chatbot_sync.log_retention; returns how many.';

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
