from tests.jobfile.conftest import write as write
