from batchgen.engines.engine_registry import open_engine as open_engine
from batchgen.errors import BatchgenError as BatchgenError
from batchgen.evaluation.comparing.compare import Comparison as Comparison
from batchgen.evaluation.comparing.compare import compare as compare
from batchgen.evaluation.scoring.score import score as score
from batchgen.evaluation.scoring.score_run import ScoreResult as ScoreResult
from batchgen.job.spec import Job as Job
from batchgen.jobfile.load import LoadedJob as LoadedJob
from batchgen.jobfile.load import load_job as load_job
from batchgen.jobfile.matrix.load_matrix import LoadedMatrix as LoadedMatrix
from batchgen.jobfile.matrix.load_matrix import load_matrix as load_matrix
from batchgen.records import Completion as Completion
from batchgen.records import Failure as Failure
from batchgen.records import Prompt as Prompt
from batchgen.records import Request as Request
from batchgen.records import Response as Response
from batchgen.records import Row as Row
from batchgen.run.in_memory.python_api import generate as generate
from batchgen.run.in_memory.python_api import run as run
from batchgen.run.matrix.matrix_result import MatrixResult as MatrixResult
from batchgen.run.matrix.matrix_run import run_matrix as run_matrix
from batchgen.run.plan import Plan as Plan
from batchgen.run.plan import plan as plan
from batchgen.run.result import RunResult as RunResult

__version__: str
