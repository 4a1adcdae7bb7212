"""What a job may say about each metric under `evaluate.metrics`: one section per type, gathered here.

`metrics/catalog.py` makes metrics of them. Knows nothing of what a metric computes.
"""

from batchgen.job.likelihood_options import BitsPerByteOptions as BitsPerByteOptions
from batchgen.job.likelihood_options import LoglikelihoodOptions as LoglikelihoodOptions
from batchgen.job.likelihood_options import MultipleChoiceOptions as MultipleChoiceOptions
from batchgen.job.likelihood_options import PerplexityOptions as PerplexityOptions
from batchgen.job.metric_section import MetricOptions as MetricOptions
from batchgen.job.reference_options import BleuOptions as BleuOptions
from batchgen.job.reference_options import CerOptions as CerOptions
from batchgen.job.reference_options import ChoiceOptions as ChoiceOptions
from batchgen.job.reference_options import ChrFOptions as ChrFOptions
from batchgen.job.reference_options import ContainsOptions as ContainsOptions
from batchgen.job.reference_options import EditDistanceOptions as EditDistanceOptions
from batchgen.job.reference_options import ExactOptions as ExactOptions
from batchgen.job.reference_options import NormalizedMatchOptions as NormalizedMatchOptions
from batchgen.job.reference_options import NumberOptions as NumberOptions
from batchgen.job.reference_options import RegexOptions as RegexOptions
from batchgen.job.reference_options import RougeOptions as RougeOptions
from batchgen.job.reference_options import TokenF1Options as TokenF1Options
from batchgen.job.response_options import AllOfKOptions as AllOfKOptions
from batchgen.job.response_options import ConstraintsOptions as ConstraintsOptions
from batchgen.job.response_options import DistinctOptions as DistinctOptions
from batchgen.job.response_options import DuplicatesOptions as DuplicatesOptions
from batchgen.job.response_options import JsonOptions as JsonOptions
from batchgen.job.response_options import JsonSchemaOptions as JsonSchemaOptions
from batchgen.job.response_options import LanguageOptions as LanguageOptions
from batchgen.job.response_options import LengthOptions as LengthOptions
from batchgen.job.response_options import MajorityOptions as MajorityOptions
from batchgen.job.response_options import PassAtKOptions as PassAtKOptions
from batchgen.job.response_options import PiiOptions as PiiOptions
from batchgen.job.response_options import PythonOptions as PythonOptions
from batchgen.job.response_options import RefusalOptions as RefusalOptions
from batchgen.job.response_options import RepetitionOptions as RepetitionOptions
from batchgen.job.response_options import SampleDiversityOptions as SampleDiversityOptions
