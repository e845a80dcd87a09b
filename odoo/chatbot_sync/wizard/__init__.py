from . import chatbot_ask
