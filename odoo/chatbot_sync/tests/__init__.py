from . import test_access
from . import test_ask
from . import test_document
from . import test_extension
from . import test_extract
from . import test_fetch
from . import test_link
from . import test_tour
