"""What clients see of presets is theirs: a column that the table gets later changes none of it."""

import json
import subprocess
import sys

import pytest
from api_server.models.api_model import PresetRead, PresetReplace
from api_server.testing import clean_environment

# Makes the module of the table as if its source had one more line, before anything else imports it.
PROGRAM = """
import json, sys, types
from importlib.util import find_spec, module_from_spec
from pathlib import Path

name, line = "api_server.models.db_model", "    owner_id: str\\n"
spec = find_spec(name)
source = Path(spec.origin).read_text()
assert source.count(line) == 1
module = sys.modules[name] = module_from_spec(spec)
exec(compile(source.replace(line, line + sys.argv[1]), spec.origin, "exec"), module.__dict__)

from api_server.app import create_app
from api_server.application import Application
from api_server.graphql.presets import PRESETS_PART
from api_server.graphql.schema import build_schema
from pydantic import BaseModel

class Theme(BaseModel):
    background: str = "#ffffff"

app = create_app(Application(name="themes", version="1", preset_kinds={"theme": Theme}))
schema = build_schema([PRESETS_PART], [])
columns = list(module.Preset.__table__.columns.keys())
print(json.dumps([columns, app.openapi(), schema.as_str()]))
"""


@pytest.mark.slow
def test_a_new_column_of_the_table_leaves_both_contracts_as_they_are() -> None:
    running = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, line], env=clean_environment(), stdout=subprocess.PIPE, text=True
        )
        for line in ("", '    hidden_note: str = Field(default="")\n')
    ]
    outputs = [process.communicate(timeout=60)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0]
    (columns, openapi, sdl), (more_columns, same_openapi, same_sdl) = map(json.loads, outputs)
    assert set(more_columns) - set(columns) == {"hidden_note"}
    assert "/api/v1/presets" in openapi["paths"]
    assert "type Preset " in sdl
    assert (same_openapi, same_sdl) == (openapi, sdl)


def test_whatever_is_read_may_be_written_back() -> None:
    assert set(PresetRead.model_fields) <= set(PresetReplace.model_fields)
