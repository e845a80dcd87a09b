from . import chatbot_extension
from . import chatbot_source_mixin
from . import chatbot_chatbot
from . import chatbot_document
from . import chatbot_link
from . import chatbot_knowledge
from . import chatbot_knowledge_field
from . import res_config_settings
