"""The text of messages (EML), and of web pages saved as one file (MHT, MHTML)."""

import email
import email.policy

HEADERS = ('Subject', 'From', 'To', 'Cc', 'Date')


def paragraphs(data, read_html):
    """Yields the headers, then the text: the plain one, or that of the HTML where there is no plain one.

    :param bytes data: the message
    :param read_html: returns the text of HTML, given its bytes and its charset
    """
    message = email.message_from_bytes(data, policy=email.policy.default)
    if message['Subject'] is not None or message['To'] is not None:
        lines = (f'{name}: {message[name]}' for name in HEADERS if message[name])
        yield '\n'.join(lines)
    body = message.get_body(preferencelist=('plain', 'html'))
    if body is None:
        body = next((part for part in message.walk() if part.get_content_type() == 'text/html'), None)
    if body is not None:
        content = body.get_payload(decode=True) or b''
        charset = body.get_content_charset()
        if body.get_content_subtype() == 'html':
            yield read_html(content, charset)
        else:
            try:
                yield content.decode(charset or 'utf-8')
            except (LookupError, UnicodeDecodeError):
                yield content.decode('cp1252', errors='replace')
    names = [part.get_filename() for part in message.iter_attachments() if part.get_filename()]
    if names:
        yield 'Attachments: ' + ', '.join(names)
