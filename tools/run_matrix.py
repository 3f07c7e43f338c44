"""Runs the tests in the corners of the versions that are supported, each in an environment of its own.

usage: python tools/run_matrix.py [CORNER ...] [--slow] [--rooms ROOM,ROOM] [--no-setup] [--again]
       python tools/run_matrix.py [CORNER ...] --failed    only what has failed in the last whole run, at the present commit
       python tools/run_matrix.py --render     only writes what has been run into the pages

A corner is a file in requirements/matrix/, and `pinned` is the environment of `make test`. One folder of tests runs at a
time; one that has run, in this environment and at this commit, is not run again, so what was interrupted goes on when it is
called again. What has been run, and when, is kept in requirements/matrix/results.json and shown in the README and in
docs/versions.md; with --failed, that it comes from two commits, and from which.
"""
import argparse
import datetime
import json
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Tuple

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / 'work_dirs/matrix'
RESULTS = ROOT / 'requirements/matrix/results.json'
PAGES = ('README.md', 'docs/versions.md')
FAMILIES = dict(mmengine=('mmengine', 'onedl-mmengine'), mmcv=('mmcv', 'mmcv-lite', 'onedl-mmcv'),
                mmseg=('mmsegmentation', 'onedl-mmsegmentation'), mmdet=('mmdet', 'onedl-mmdetection'),
                mmpretrain=('mmpretrain', 'onedl-mmpretrain'), torch=('torch',), numpy=('numpy',))
VERSIONS = '''
import json, platform, sys
from importlib.metadata import PackageNotFoundError, version
found = dict(python=platform.python_version())
for name, packages in json.loads(sys.argv[1]).items():
    for package in packages:
        try:
            found[name] = version(package) + (f' ({package})' if package != packages[0] else '')
        except PackageNotFoundError:
            continue
print(json.dumps(found))
'''
"""Prints the versions that an environment has, with the name of the package where it is not the usual one."""


Outcome = Tuple[str, str, str]
"""A test, 'passed', 'failed' or 'skipped', and the first line of the reason."""


class Corner(NamedTuple):
    """An environment that the tests run in.

    Attributes:
        python: the version of Python.
        says: what it is the corner of.
    """
    python: str
    says: str


CORNERS = dict(
    oldest=Corner('3.10', 'the oldest of everything'),
    pinned=Corner('3.11', '`make test`: requirements/constraints.txt'),
    newest=Corner('3.12', 'the newest of everything'),
    onedl=Corner('3.11', "OneDL's packages"))


def interpreter(version: str) -> str:
    """Python of this version: from PATH, or one of pyenv's.

    Raises:
        SystemExit: if there is none.
    """
    found = shutil.which(f'python{version}')
    # What pyenv has put there fails where it is not set up for this folder.
    if found and subprocess.run([found, '-c', ''], capture_output=True, check=False).returncode == 0:
        return found
    root = Path(os.environ.get('PYENV_ROOT', Path.home() / '.pyenv'))
    ours = sorted(root.glob(f'versions/{version}.*/bin/python'))
    if not ours:
        raise SystemExit(f'there is no python{version}: put one into PATH')
    return str(ours[-1])


def set_up(name: str) -> None:
    """Makes the environment of a corner, or brings it up to date."""
    mode = ['full', '.venv'] if name == 'pinned' else ['corner', str(environment(name).relative_to(ROOT))]
    subprocess.run(['bash', 'tools/setup_env.sh', *mode], cwd=ROOT, check=True, stdout=subprocess.DEVNULL,
                   env={**os.environ, 'PYTHON': interpreter(CORNERS[name].python)})


def environment(name: str) -> Path:
    """The folder of a corner's environment."""
    return ROOT / ('.venv' if name == 'pinned' else f'.venv-matrix/{name}')


def said(*command: Any) -> str:
    """What a program prints."""
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def versions(name: str) -> Dict[str, str]:
    """What an environment has."""
    found: Dict[str, str] = json.loads(said(environment(name) / 'bin/python', '-c', VERSIONS, json.dumps(FAMILIES)))
    return found


def commit() -> str:
    """The commit that is checked out."""
    return said('git', 'rev-parse', '--short', 'HEAD').strip()


def changes() -> str:
    """What of the code has been changed since, and is not committed."""
    return said('git', 'diff', 'HEAD', '--', 'mmkd_plugin', 'tests', 'configs', 'tools', 'benchmarks')


def rooms() -> Dict[str, List[str]]:
    """The folders of tests and the files in each; those of the root are one more."""
    found: Dict[str, List[str]] = {}
    for file in sorted((ROOT / 'tests').rglob('test_*.py')):
        relative = file.relative_to(ROOT / 'tests')
        found.setdefault(relative.parts[0] if len(relative.parts) > 1 else 'root', []).append(f'tests/{relative}')
    return found


def run_room(name: str, files: List[str], target: Path, slow: bool, jobs: int) -> None:
    """Runs some files of tests; what came out is in ``target`` once they are through."""
    part = target.with_suffix('.part')
    subprocess.run([environment(name) / 'bin/python', '-m', 'pytest', *files, f'--junitxml={part}', '--dist=loadfile',
                    f'-n{jobs}', *([] if slow else ['-m', 'not slow'])], cwd=ROOT, check=False,
                   env={**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(ROOT)})
    if part.exists():  # without it the process has died
        part.rename(target)


def outcomes(file: Path) -> Iterator[Outcome]:
    """That of each test that a room has run."""
    for case in ET.parse(file).getroot().iter('testcase'):
        test = f"{case.get('classname', '').replace('.', '/')}.py: {case.get('name')}".replace('.py: [', '[')
        bad, skipped = case.find('failure'), case.find('skipped')
        bad = case.find('error') if bad is None else bad
        if bad is not None:
            yield test, 'failed', (bad.get('message') or '').splitlines()[0][:200]
        elif skipped is not None:
            yield test, 'skipped', (skipped.get('message') or '').splitlines()[0]
        else:
            yield test, 'passed', ''


def function(test: str) -> str:
    """The name of a test without that of the case."""
    return re.sub(r'\[.*', '', test)


def summary(name: str, found: List[Outcome], tests: str) -> Dict[str, Any]:
    """What is kept of a corner's run."""
    counts = Counter(outcome for _, outcome, _ in found)
    listed: Dict[str, Dict[str, List[str]]] = dict(failed={}, skipped={})
    for test, outcome, reason in found:
        if outcome in listed:
            listed[outcome].setdefault(reason, []).append(test)
    return dict(date=datetime.date.today().isoformat(), commit=commit(), tests=tests,
                versions=versions(name), passed=counts['passed'], **listed)


def run_corner(name: str, args: argparse.Namespace) -> bool:
    """Runs what of a corner has not been run yet, and keeps it. Whether nothing has failed."""
    folder = WORK / name
    if not args.no_setup:
        set_up(name)
    wanted, stamp = json.dumps([commit(), changes(), versions(name), args.slow]), folder / 'state'
    chosen = {room: files for room, files in rooms().items() if not args.rooms or room in args.rooms.split(',')}
    if args.again or not stamp.exists() or stamp.read_text() != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        stamp.write_text(wanted)
    for room, files in chosen.items():
        target = folder / f'{room}.xml'
        if not target.exists():
            print(f'[{name}] {room}', flush=True)
            run_room(name, files, target, args.slow, args.jobs)
        if not target.exists():
            print(f'[{name}] {room}: the tests have not come to their end')
            return False
    tests = ('all' if args.slow else 'not slow') + (f' of {", ".join(chosen)}' if args.rooms else '')
    return keep(name, [entry for room in chosen for entry in outcomes(folder / f'{room}.xml')], tests)


def run_failed(name: str, args: argparse.Namespace) -> bool:
    """Runs again, at the present commit, what of a corner has failed when it was run whole. Whether nothing fails now.

    The environment is taken as it is.

    Raises:
        SystemExit: where it has not been run whole, or with other packages.
    """
    folder, stamp = WORK / name, WORK / name / 'state'
    if not stamp.exists() or any(not (folder / f'{room}.xml').exists() for room in rooms()):
        raise SystemExit(f'{name} has not been run whole')
    before, _, packages, slow = json.loads(stamp.read_text())
    if packages != versions(name):
        raise SystemExit(f'{name} has other packages than when it was run')
    first = [entry for room in rooms() for entry in outcomes(folder / f'{room}.xml')]
    # With all their cases, whose names may have changed since.
    failed = sorted({function(test) for test, outcome, _ in first if outcome == 'failed'})
    if not failed:  # pytest without names would run everything
        print(f'[{name}] nothing has failed in the last whole run')
        return True
    target = folder / 'again.xml'
    target.unlink(missing_ok=True)
    run_room(name, [test.replace('.py: ', '.py::') for test in failed], target, slow, args.jobs)
    second = list(outcomes(target)) if target.exists() else []
    if sorted({function(test) for test, *_ in second}) != failed:
        raise SystemExit(f'{name}: not each test that had failed has come to its end')
    return keep(name, [*(entry for entry in first if function(entry[0]) not in failed), *second],
                f'{"all" if slow else "not slow"}, at {before}; the {len(failed)} that failed, again at {commit()}')


def keep(name: str, found: List[Outcome], tests: str) -> bool:
    """Keeps what a corner's tests have come to, and prints it. Whether nothing has failed."""
    result = summary(name, found, tests)
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    RESULTS.write_text(json.dumps({**kept, name: result}, indent=1, sort_keys=True) + '\n')
    print(f"[{name}] {result['passed']} passed, {total(result['failed'])} failed, {total(result['skipped'])} skipped")
    for kind in ('failed', 'skipped'):
        for reason, names in result[kind].items():
            print(f'  {kind}: {reason}', *names, sep='\n    ')
    return not result['failed']


def total(listed: Dict[str, List[str]]) -> int:
    """How many tests there are under all reasons together."""
    return sum(map(len, listed.values()))


def table(results: Dict[str, Any]) -> str:
    """A line for each corner, with what has been run in it."""
    columns = ('python', 'torch', 'numpy', 'mmengine', 'mmcv')
    lines = [f'| | {" | ".join(columns).replace("python", "Python")} | tests | passed | failed | skipped | run on |',
             f'|---|{"---|" * len(columns)}---|--:|--:|--:|---|']
    for name in CORNERS:
        if name in results:
            of = results[name]
            cells = [of['versions'].get(column, '-') for column in columns]
            lines.append(f"| {name} | {' | '.join(cells)} | {of['tests']} | {of['passed']} | {total(of['failed'])} "
                         f"| {total(of['skipped'])} | {of['date']} |")
        else:
            lines.append(f"| {name} | {CORNERS[name].python} |{' |' * len(columns)} | | | not yet |")
    return '\n'.join(lines)


def named(results: Dict[str, Any]) -> str:
    """What was skipped or has failed in each corner, by reason and by name; the cases of one test as one."""
    parts = []
    for name in CORNERS:
        for kind in ('failed', 'skipped'):
            for reason, tests in results.get(name, {}).get(kind, {}).items():
                cases = Counter(map(function, tests))
                parts.append(f'**{name}**, {kind}: {reason}\n\n' + '\n'.join(
                    f'* `{test}`' + (f' ({count} cases)' if count > 1 else '') for test, count in sorted(cases.items())))
    return '\n\n'.join(parts) or 'None.'


def rendered(page: str, results: Dict[str, Any]) -> str:
    """A page with what has been run between its markers, `<!-- matrix: table -->` or `named`, and `<!-- end -->`."""
    made = dict(table=table(results), named=named(results))
    return re.sub(r'(<!-- matrix: (\w+) -->\n).*?(<!-- end -->)',
                  lambda found: f'{found[1]}\n{made[found[2]]}\n\n{found[3]}', page, flags=re.DOTALL)


def render() -> None:
    """Writes the results into the pages that show them."""
    for page in PAGES:
        path = ROOT / page
        path.write_text(rendered(path.read_text(), json.loads(RESULTS.read_text())))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('corners', nargs='*', metavar='CORNER', help=f'by default all: {", ".join(CORNERS)}')
    parser.add_argument('--slow', action='store_true', help='the slow tests, too')
    parser.add_argument('--rooms', default='', help='some folders of tests only, with commas; root: the files beside')
    parser.add_argument('--no-setup', action='store_true', help='take the environments as they are')
    parser.add_argument('--again', action='store_true', help='run anew what has been run')
    parser.add_argument('--failed', action='store_true', help='only what has failed in the last whole run')
    parser.add_argument('--jobs', type=int, default=0, help='how many test files run at once; 0: in one process')
    parser.add_argument('--render', action='store_true', help='only write the pages')
    args = parser.parse_args()
    unknown = [name for name in args.corners if name not in CORNERS]
    if unknown:
        parser.error(f'{unknown[0]} is no corner; there are {", ".join(CORNERS)}')
    # All of them, whatever has failed before.
    run = run_failed if args.failed else run_corner
    good = [] if args.render else [run(name, args) for name in args.corners or CORNERS]
    if RESULTS.exists():
        render()
    sys.exit(not all(good))


if __name__ == '__main__':
    main()
