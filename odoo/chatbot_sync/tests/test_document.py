import base64

from odoo.tests import tagged
from odoo.tools import mute_logger

from . import samples
from .common import TOO_LONG, ChatbotCase


@tagged('post_install', '-at_install')
class TestDocument(ChatbotCase):
    def upload(self, data, file_name, **values):
        return self.document(file_name, file=base64.b64encode(data), file_name=file_name, **values)

    def test_status_is_visible_at_once(self):
        self.assertEqual(self.refunds.vector_sync_status, 'synced')
        self.assertTrue(self.refunds.processed)
        self.assertEqual(self.refunds.status, 'synced')
        self.assertEqual(self.refunds.chunk_count, 1)
        self.refunds.name = TOO_LONG
        self.assertEqual(self.refunds.status, 'error')
        self.refunds.name = "Refunds"
        self.assertEqual(self.refunds.status, 'synced')
        self.assertFalse(self.refunds.status_reason)

    def test_search_finds_the_current_text(self):
        self.assertIn(self.refunds.content, self.search_texts("When are refunds paid?"))
        self.refunds.content = "Refunds take a month."
        self.assertEqual(self.search_texts("When are refunds paid?"), ["Refunds take a month."])
        self.refunds.unlink()
        self.assertFalse(self.search_texts("When are refunds paid?"))

    def test_batch_of_documents_is_synced(self):
        documents = self.env['chatbot.document'].create([
            {'name': f"Number {n}", 'content': f"The answer to {n} is {n + 1}.", 'chatbot_id': self.chatbot.id} for n in range(250)
        ])
        self.assertEqual(set(documents.mapped('vector_sync_status')), {'synced'})
        self.assertEqual(self.chatbot.synced_count, 251)
        documents.write({'content': "The same for all."})
        self.assertEqual(set(documents.mapped('vector_sync_status')), {'synced'})
        documents.unlink()
        self.assertEqual(self.chatbot.synced_count, 1)

    def test_archived_document_is_not_found(self):
        self.refunds.action_archive()
        self.assertFalse(self.search_texts("When are refunds paid?"))
        self.refunds.action_unarchive()
        self.assertTrue(self.search_texts("When are refunds paid?"))
        self.assertEqual(self.refunds.status, 'synced')

    def test_document_without_text_is_pending(self):
        empty = self.document("Nothing yet")
        self.assertEqual(empty.status, 'pending')
        self.assertFalse(empty.processed)
        empty.content = "Something."
        self.assertEqual(empty.status, 'synced')

    def test_document_moves_to_its_new_chatbot(self):
        other = self.env['chatbot.chatbot'].create({'name': "Other"})
        self.refunds.chatbot_id = other
        self.assertFalse(self.search_texts("When are refunds paid?"))
        self.assertTrue(other.search_passages("When are refunds paid?"))

    def test_uploaded_files_are_found_in_every_format(self):
        for data, file_name in (
            (samples.pdf("Vouchers are valid for three years."), 'vouchers.pdf'),
            (samples.word("Vouchers are valid for three years."), 'vouchers.docx'),
            (samples.odt('<text:p>Vouchers are valid for three years.</text:p>'), 'vouchers.odt'),
            (samples.workbook(lambda book: book.active.append(["Vouchers are valid for three years."])), 'vouchers.xlsx'),
            (samples.presentation(lambda slides: setattr(
                slides.slides.add_slide(slides.slide_layouts[5]).shapes.title, 'text', "Vouchers are valid for three years.",
            )), 'vouchers.pptx'),
            (b'{\\rtf1 Vouchers are valid for three years.}', 'vouchers.rtf'),
            (b'<html><body><p>Vouchers are valid for three years.</p></body></html>', 'vouchers.html'),
            (b'Vouchers are valid for three years.', 'vouchers.md'),
            (b'Vouchers are valid for three years.', 'vouchers.csv'),
            (b'Vouchers are valid for three years.', 'vouchers.txt'),
        ):
            with self.subTest(file_name):
                document = self.upload(data, file_name)
                self.assertEqual(document.status, 'synced')
                self.assertEqual(document.file_size, len(data))
                self.assertTrue(document.file_type)
                self.assertTrue(document.uploaded_at)
                self.assertIn("Vouchers are valid for three years.", "".join(self.search_texts("How long is a voucher good for?")))
                document.unlink()

    def test_upload_is_named_after_its_file(self):
        document = self.env['chatbot.document'].create({
            'file': base64.b64encode(b'Hello'), 'file_name': 'hello.txt', 'chatbot_id': self.chatbot.id,
        })
        self.assertEqual(document.name, 'hello.txt')

    @mute_logger('pypdf._reader')
    def test_unreadable_file_has_a_reason(self):
        for data, file_name, reason in (
            (samples.encrypted_pdf('secret'), 'letter.pdf', "encrypted"),
            (samples.pdf("Hello")[:100], 'letter.pdf', "broken"),
            (b'\x00\x01\x02', 'letter.txt', "cannot be read"),
        ):
            with self.subTest(reason):
                document = self.upload(data, file_name)
                self.assertEqual(document.status, 'error')
                self.assertIn(reason, document.status_reason)
                self.assertFalse(document.processed)
                self.assertIn(document, self.env['chatbot.document'].search([('status', '=', 'error')]))
                self.assertNotIn(document, self.env['chatbot.document'].search([('status', '!=', 'error')]))

    @mute_logger('pypdf._reader')
    def test_replaced_file_replaces_its_text(self):
        document = self.upload(samples.pdf("Vouchers are valid for three years."), 'vouchers.pdf')
        document.write({'file': base64.b64encode(samples.pdf("Hello")[:100])})
        self.assertEqual(document.status, 'error')
        self.assertFalse(document.content)
        self.assertNotIn("Vouchers are valid for three years.", self.search_texts("How long is a voucher good for?"))
        document.write({'file': base64.b64encode(samples.pdf("Vouchers are valid for two years."))})
        self.assertEqual(document.status, 'synced')
        self.assertFalse(document.status_reason)
        self.assertIn("Vouchers are valid for two years.", self.search_texts("How long is a voucher good for?"))

    def test_text_written_by_hand_replaces_an_unreadable_file(self):
        document = self.upload(b'\x00\x01\x02', 'letter.txt')
        document.content = "What is in the letter."
        self.assertEqual(document.status, 'synced')
        self.assertFalse(document.status_reason)

    def test_too_large_file_is_refused(self):
        self.env['ir.config_parameter'].set_param('chatbot_sync.max_file_mb', 1)
        document = self.upload(b'x' * (1024**2 + 1), 'large.txt')
        self.assertEqual(document.status, 'error')
        self.assertIn("1 MB is the limit", document.status_reason)
        self.assertFalse(document.file)

    def test_failure_of_one_document_keeps_others(self):
        documents = self.env['chatbot.document'].create([
            {'name': name, 'content': "A text.", 'chatbot_id': self.chatbot.id} for name in ("Good", TOO_LONG)
        ])
        self.assertEqual(documents.mapped('status'), ['synced', 'error'])
        self.assertIn("metadata", documents[1].status_reason)
        self.assertEqual(self.chatbot.error_count, 1)

    def test_retry_syncs_failed_documents(self):
        failed = self.document(TOO_LONG, "A text.")
        action = failed.action_retry()
        self.assertEqual(action['params']['type'], 'warning')
        self.assertIn("metadata", action['params']['message'])
        # The state of a document whose provider was down.
        self.env.cr.execute(
            "UPDATE chatbot_document SET vector_sync_status = 'error', processed = FALSE, sync_error = 'down' WHERE id = %s",
            [self.refunds.id],
        )
        action = (self.refunds + failed).action_retry()
        self.assertEqual(self.refunds.status, 'synced')
        self.assertIn("1 of 2", action['params']['message'])
        self.assertEqual(self.refunds.action_retry()['params']['type'], 'info')

    def test_retry_reads_the_file_again(self):
        document = self.upload(b'Hello', 'hello.txt')
        document.write({'read_error': "The library was missing.", 'content': False})
        self.assertEqual(document.action_retry()['params']['type'], 'success')
        self.assertEqual(document.content, "Hello")

    @mute_logger('pypdf._reader')
    def test_files_are_read_again_by_their_names(self):
        document = self.upload(b'Size,Price\nSmall,3\n', 'prices.csv')
        broken = self.upload(b'Hello', 'hello.txt')
        self.env.cr.execute("UPDATE chatbot_document SET content = 'Size,Price Small,3' WHERE id = %s", [document.id])
        document.invalidate_recordset()
        broken.file = base64.b64encode(b'%PDF-1.4 cut off')
        action = (document + broken + self.refunds).action_read_again()
        self.assertEqual(action['params']['type'], 'warning')
        self.assertEqual((document.content, document.status), ("Size: Small\nPrice: 3", 'synced'))
        self.assertIn("Refunds", self.refunds.content)
        self.assertEqual(document.action_read_again()['params']['type'], 'success')
