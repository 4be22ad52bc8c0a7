"""hypothesis without limits of time: how long an example takes on a busy machine says nothing.

Imported by conftest.py; where that cannot be loaded, as under Wine, `pytest -p fakes.untimed`.
"""

from hypothesis import HealthCheck, settings

settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")
