"""The losses by name and their options, as the tables of docs/losses.md say them."""
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List, Set

from .documented import FLAG, Documented, choice, listed, number, optional

PAGE = Path(__file__).resolve().parents[2] / 'docs' / 'losses.md'
BOUNDS = {'>': 'above', '>=': 'least', '<': 'below', '<=': 'most'}


def phrase(text: str) -> Documented:
    """What 'a number > 0, or None' and the like accept; anything, where the words are not known here."""
    text = text.strip()
    for constant in (', or None', ", or 'auto'"):
        if text.endswith(constant):
            return optional(phrase(text[:-len(constant)]), None if 'None' in constant else 'auto')
    if text == 'True or False':
        return FLAG
    found = re.fullmatch(r'(a|an) (whole )?number( [><].*)?', text)
    if found:
        bounds = re.findall(r'(>=|>|<=|<) (-?[\d.e+]+)', found[3] or '')
        return number(whole=bool(found[2]), **{BOUNDS[sign]: float(bound) for sign, bound in bounds})
    found = re.fullmatch(r'a list of (?:(\d+) )?(different )?((?:whole )?numbers.*)', text)
    if found:
        return listed(phrase(f'a {found[3].replace("numbers", "number")}'), int(found[1] or 0), bool(found[2]))
    if re.fullmatch(r"'\w+'(, '\w+')*", text):
        return choice(*re.findall(r"'(\w+)'", text))
    return Documented(lambda value: True)


def tables() -> Dict[str, Dict[str, Dict[str, Documented]]]:
    """By the distiller that takes them: the losses by both of their names, with their options."""
    found: Dict[str, Dict[str, Dict[str, Documented]]] = {}
    distiller = name = ''
    for line in PAGE.read_text().splitlines():
        if line.startswith('## '):
            distiller = line.partition('`')[2].rstrip('`')
        heading = re.match(r'### `(\w+)`: `(mmkd\.\w+)`', line)
        if heading:
            name, options = heading[1], {}
            found.setdefault(distiller, {}).update({heading[1]: options, heading[2]: options})
        row = re.match(r'\| `(\w+)` \| (.*?) \| ', line)
        if row and name and distiller in found and name in found[distiller]:
            required = '| (required) |' in line
            found[distiller][name][row[1]] = replace(phrase(row[2].replace('\\|', '|')), required=required)
    return found


def loss_of(distiller: str) -> Documented:
    """The option ``loss`` of a distiller."""
    known = tables()[distiller]

    def needed(options: Dict[str, Documented]) -> Set[str]:
        return {option for option, one in options.items() if one.required}

    def fits(value: Any) -> bool:
        if isinstance(value, dict):
            kind = value.get('type')
            options = known.get(kind) if isinstance(kind, str) else None
            return options is not None and needed(options) <= set(value) and all(
                key == 'type' or (key in options and options[key].fits(inner)) for key, inner in value.items())
        return isinstance(value, str) and value in known and not needed(known[value])

    near: List[Any] = [*known, *(name[:-1] for name in known), {}, dict(type='l2', x=1)]
    for name, options in known.items():
        near.append(dict(type=name))
        near += [{'type': name, option: value} for option, one in options.items() for value in one.near[:6]]
    return Documented(fits, near)


def add_losses(options: Dict[str, Dict[str, Documented]]) -> None:
    """Adds what docs/losses.md says to the options of the distillers."""
    for distiller in ('mmkd.FeatureDistiller', 'mmkd.LogitsDistiller'):
        options[distiller]['loss'] = loss_of(distiller)
    options['mmkd.DistProDistiller']['distance'] = options['mmkd.FeatureDistiller']['loss']
    dfa = options['mmkd.FeatureAggregationDistiller']
    if len(dfa['distance'].near) < 20:  # once
        own, losses = dfa['distance'], options['mmkd.FeatureDistiller']['loss']
        dfa['distance'] = Documented(lambda value: own.fits(value) or losses.fits(value), [*own.near, *losses.near])
