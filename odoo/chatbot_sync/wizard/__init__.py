from . import chatbot_ask
from . import chatbot_knowledge_preview
