"""Numbers of spreadsheets in the format of their cells."""

import datetime
import decimal
import re

from openpyxl.utils.datetime import CALENDAR_MAC_1904, CALENDAR_WINDOWS_1900, from_excel

__all__ = ['CALENDAR_MAC_1904', 'CALENDAR_WINDOWS_1900', 'format_number']

# Quoted text, an escaped character, a space of a character's width, a fill, a currency, a color or a condition.
LITERAL = re.compile(r'"([^"]*)"|\\(.)|_.|\*.|\[\$([^\]-]*)[^\]]*\]|\[[^\]]*\]')
# The placeholder of a literal while the digits are looked for.
MARK = re.compile('\0(\\d+)\1')
DURATION = re.compile(r'\[(?:h+|m+|s+)\]', re.IGNORECASE)
DIGITS = re.compile(r'[0#?][0#?,]*(?:\.[0#?]*)?,*|\.[0#?]+')


def format_number(value, code, epoch=CALENDAR_WINDOWS_1900):
    """Returns a number as its format shows it. Dates are in ISO 8601, whatever their order in the format.

    :param float value: the number
    :param str code: the format, as Excel writes it
    :param epoch: the day from which days are counted
    """
    if code in (None, 'General', '@'):
        return _general(value)
    code = code[:255]  # the longest format that Excel allows
    if DURATION.search(code):
        return _duration(value, code)
    letters = LITERAL.sub('', code).lower()
    if re.search('[ymdhs]', letters) and 'general' not in letters:
        return _date(value, letters, epoch)
    sections = re.split(r';(?=(?:[^"]*"[^"]*")*[^"]*$)', code)
    if value < 0 and len(sections) > 1:
        section, value = sections[1], -value
    elif value == 0 and len(sections) > 2:
        section = sections[2]
    else:
        section = sections[0]
    literals = []

    def keep(match):
        literals.append(match[1] or match[2] or match[3] or '')
        return f'\0{len(literals) - 1}\1'

    pattern = LITERAL.sub(keep, section)
    if 'General' in pattern:
        text = pattern.replace('General', _general(value), 1)
    elif place := DIGITS.search(MARK.sub(lambda mark: ' ' * len(mark[0]), pattern)):
        if re.search('[E/]', pattern):  # scientific notation and fractions
            return _general(value)
        text = pattern[:place.start()] + _digits(value, place[0], '%' in pattern) + pattern[place.end():]
    else:
        text = pattern  # text only, or empty
    return MARK.sub(lambda mark: literals[int(mark[1])], text).strip()


def _digits(value, pattern, percent):
    whole, _point, decimals = pattern.partition('.')
    number = decimal.Decimal(repr(value)).scaleb(2 if percent else -3 * (len(pattern) - len(pattern.rstrip(','))))
    places = sum(digit in '0#?' for digit in decimals)
    with decimal.localcontext(prec=600, rounding=decimal.ROUND_HALF_UP):
        text = f'{number.quantize(decimal.Decimal(1).scaleb(-places)):{"," if "," in whole.rstrip(",") else ""}f}'
    if places:
        before, after = text.split('.')
        least = sum(digit == '0' for digit in decimals)
        after = after[:least] + after[least:].rstrip('0')
        text = f'{before}.{after}' if after else before
    sign = '-' * text.startswith('-')
    return sign + text.lstrip('-').zfill(sum(digit == '0' for digit in whole))


def _general(value):
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else f'{value:.10g}'


def _duration(value, code):
    """Returns a duration as hours, minutes and seconds. The hours may exceed 24."""
    seconds = round(value * 86400)
    hours, minutes, seconds = seconds // 3600, seconds // 60 % 60, seconds % 60
    return f'{hours}:{minutes:02}' + (f':{seconds:02}' if 's' in code.lower() else '')


def _date(value, letters, epoch):
    try:
        moment = from_excel(value, epoch)
    except (ValueError, OverflowError):
        return _general(value)
    precision = 'seconds' if 's' in letters else 'minutes'
    if isinstance(moment, datetime.time):
        return moment.isoformat(precision)
    if isinstance(moment, datetime.datetime):
        if not re.search('[hs]', letters):
            return moment.date().isoformat()
        return moment.isoformat(' ', precision) if re.search('[yd]', letters) else moment.time().isoformat(precision)
    return str(moment)
