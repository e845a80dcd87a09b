{
    'name': "Chatbot Knowledge",
    'summary': "Documents, links and records that your chatbots know, found by meaning, inside Odoo's own database",
    'version': '19.0.1.2.0',
    'category': 'Productivity',
    'author': "The chatbot_sync authors",
    'license': 'Other OSI approved licence',  # MIT
    'depends': ['base_setup', 'web'],
    # pypdf reads PDF, trafilatura the main text of web pages. Office, OpenDocument and HTML files are read with lxml,
    # number formats with openpyxl and old workbooks with xlrd, which Odoo needs anyway. Why there is no library for
    # each format: docs/odoo.md
    'external_dependencies': {'python': ['pypdf', 'trafilatura']},
    'data': [
        'security/chatbot_security.xml',
        'security/ir.model.access.csv',
        'data/ir_cron.xml',
        'wizard/chatbot_ask_views.xml',
        'wizard/chatbot_knowledge_preview_views.xml',
        'views/chatbot_document_views.xml',
        'views/chatbot_link_views.xml',
        'views/chatbot_knowledge_views.xml',
        'views/chatbot_chatbot_views.xml',
        'views/res_config_settings_views.xml',
        'views/chatbot_menus.xml',
    ],
    'assets': {
        'web.assets_backend': ['chatbot_sync/static/src/*.js'],
        'web.assets_tests': ['chatbot_sync/static/tests/tours/*.js'],
    },
    'pre_init_hook': 'pre_init_hook',
    'post_init_hook': 'post_init_hook',
    'uninstall_hook': 'uninstall_hook',
    'application': True,
}
