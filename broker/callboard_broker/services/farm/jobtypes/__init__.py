"""Job types: small Python files that turn what people ask for into steps. Ours lie here, other people's in a folder.

A job type is a module with a docstring (its first line is what people read), a class ``Settings`` and a function
``tasks(job, settings)`` that returns a list of :class:`TaskSpec`. The file's name is the job type's name.
"""

from callboard_broker.services.farm.jobtypes.load import BUILT_IN, JobTypes, load_job_types
from callboard_broker.services.farm.jobtypes.spec import JobSettings, JobType, TaskSpec

__all__ = ["BUILT_IN", "JobSettings", "JobType", "JobTypes", "TaskSpec", "load_job_types"]
