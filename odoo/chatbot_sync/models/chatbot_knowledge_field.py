"""Texts of knowledge from records, in their order."""

from odoo import fields, models


class ChatbotKnowledgeField(models.Model):
    _name = 'chatbot.knowledge.field'
    _description = "Text of Knowledge from Records"
    _order = 'sequence, id'

    knowledge_id = fields.Many2one('chatbot.knowledge', required=True, index=True, ondelete='cascade')
    sequence = fields.Integer(default=10)
    model_id = fields.Many2one(related='knowledge_id.model_id')
    company_id = fields.Many2one(related='knowledge_id.company_id')
    field_id = fields.Many2one(
        'ir.model.fields', string="Field", required=True, ondelete='cascade',
        domain="[('model_id', '=', model_id), ('store', '=', True), ('company_dependent', '=', False),"
               " ('ttype', 'in', ('char', 'text', 'html'))]",
    )
    ttype = fields.Selection(related='field_id.ttype', string="Type")

    _once = models.Constraint('UNIQUE (knowledge_id, field_id)', "A text is chosen once.")
