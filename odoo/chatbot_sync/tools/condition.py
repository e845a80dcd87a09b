"""Translates a domain of Odoo to a condition of ``chatbot_attach()``.

Odoo's own ORM makes the SQL, so that a condition holds for a record if and only if ``search()`` finds it. What is allowed is
what a trigger can answer from the row alone, for ever: columns of the table, compared with values that do not depend on the
user or the day.
"""

import ast

from odoo.exceptions import AccessError, UserError
from odoo.fields import Domain
from odoo.orm.utils import COLLECTION_TYPES
from odoo.tools import Query
from odoo.tools.date_utils import parse_iso_date

# Types of fields that are compared, each with its operators besides those of EQUALITY.
EQUALITY = {'=', '!=', 'in', 'not in', '=?'}
INEQUALITY = {'<', '>', '<=', '>='}
PATTERNS = {'like', 'not like', 'ilike', 'not ilike', '=like', 'not =like', '=ilike', 'not =ilike'}
OPERATORS = {
    'boolean': set(),
    'integer': INEQUALITY,
    'float': INEQUALITY,
    'monetary': INEQUALITY,
    'char': INEQUALITY | PATTERNS,
    'text': INEQUALITY | PATTERNS,
    'html': INEQUALITY | PATTERNS,
    'selection': INEQUALITY,
    'date': INEQUALITY,
    'datetime': INEQUALITY,
    'many2one': set(),
}


class Untranslatable(UserError):
    """A domain that cannot be a condition. Its message says which part of it, and why."""


def condition_of(model, text):
    """Returns the condition that a domain, written as text, is in SQL; ``None`` where it is true for every record."""
    condition = condition_sql(model, text)
    return condition and model.env.cr.mogrify(condition).decode()


def condition_sql(model, text):
    """Returns the same as :class:`SQL`.

    As in a search, archived records do not fulfil it unless the domain mentions the field that archives them.

    :raise Untranslatable: where the domain cannot be a condition
    """
    domain = _parse(model.env, text)
    for leaf in domain.iter_conditions():
        _check(model, leaf)
    active = model._active_name
    if active and model._fields[active].store and not any(leaf.field_expr == active for leaf in domain.iter_conditions()):
        domain &= Domain(active, '=', True)
    try:
        domain = domain.optimize_full(model)
        if domain.is_true():
            return None
        if domain.is_false():
            raise Untranslatable(model.env._("The filter %s excludes every record.", text))
        for leaf in domain.iter_conditions():
            _check(model, leaf)
        query = Query(model.env, model._table, model._table_sql)
        return domain._to_sql(model, model._table, query)
    except (AccessError, Untranslatable):
        raise
    except (UserError, ValueError, TypeError, NotImplementedError) as error:
        raise Untranslatable(model.env._("The filter %(filter)s is not valid: %(reason)s", filter=text, reason=error)) from error

def _parse(env, text):
    """Returns the domain that a text is, where it has literals only."""
    try:
        tree = ast.parse((text or '[]').strip(), mode='eval')
    except (SyntaxError, ValueError) as error:
        raise Untranslatable(env._("The filter %s is not a domain.", text)) from error
    for node in ast.walk(tree):
        if isinstance(node, (ast.Name, ast.Call, ast.Attribute)):
            raise Untranslatable(env._(
                "The filter depends on %s, which changes with the user or the day: records would have to be compared again by"
                " themselves. Give a value instead.", ast.unparse(node),
            ))
    try:
        return Domain(ast.literal_eval(tree))
    except (ValueError, TypeError) as error:
        raise Untranslatable(env._("The filter %s is not a domain.", text)) from error


def _check(model, leaf):
    """Refuses a leaf that needs more than a column of the record's own row."""
    _ = model.env._
    name, operator, value = leaf.field_expr, leaf.operator, leaf.value

    def refuse(reason):
        [condition] = leaf
        raise Untranslatable(_("The filter cannot have %(condition)s: %(reason)s", condition=condition, reason=reason))

    if '.' in name:
        refuse(_("only fields of the record itself are known when it is saved, not those of a related record."))
    field = model._fields.get(name)
    if not field:
        refuse(_("there is no field %s.", name))
    if not field.store or not field.column_type:
        refuse(_("the field is not stored in the table of the record."))
    if field.company_dependent:
        refuse(_("the field has a value for each company."))
    if field.translate:
        refuse(_("the field has a value for each language."))
    if field.type not in OPERATORS:
        refuse(_("fields of the type %s cannot be compared.", field.type))
    if operator in ('child_of', 'parent_of', 'any', 'not any', 'any!', 'not any!'):
        refuse(_("%s needs other records.", operator))
    if operator not in EQUALITY | OPERATORS[field.type]:
        refuse(_("%(operator)s is not possible for a field of the type %(type)s.", operator=operator, type=field.type))
    if operator.endswith('ilike') and model.env.registry.has_unaccent:
        refuse(_("this database ignores accents (unaccent), which a trigger cannot do. Use like or =like."))
    for value in value if isinstance(value, COLLECTION_TYPES) else [value]:
        if field.type == 'many2one' and isinstance(value, str):
            refuse(_("a related record is searched by its name: choose the record."))
        if field.type in ('date', 'datetime') and isinstance(value, str):
            _check_date(field, value, refuse, _)


def _check_date(field, value, refuse, _):
    try:
        parse_iso_date(value)
    except ValueError:
        refuse(_("%s changes with the day: records would have to be compared again by themselves. Give a date instead.", value))
    if field.type == 'datetime' and len(value) <= 10:
        refuse(_("when a day begins depends on the time zone of the user: give the time too."))
