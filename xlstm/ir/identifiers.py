"""Layer names as safe Python identifiers: nothing from a file reaches source text unchecked.

In: a name, such as "dense/kernel". Out: an identifier, such as "dense_kernel".
"""

from __future__ import annotations

import keyword
import re
import unicodedata
from collections.abc import Mapping
from types import MappingProxyType

from xlstm.ir.graph import Model

RESERVED = frozenset(
    """
    add_module apply bfloat16 bind bool buffers build call call_super_init children clone
    compile copy count_params cpu cuda double dtype dump_patches eval extra_repr F float forward
    from_pretrained get_buffer get_extra_state get_parameter get_submodule get_variable half
    has_rng has_variable init init_with_output ipu is_initializing is_mutable_collection
    iter_children iter_modules jax jnp keras lazy_init load load_state_dict make_rng
    module_paths modules mtia name named_buffers named_children named_modules named_parameters
    nn nnx np param param_dtype parameters params parent path perturb put_variable reduce
    register_backward_hook register_buffer register_forward_hook register_forward_pre_hook
    register_full_backward_hook register_full_backward_pre_hook
    register_load_state_dict_post_hook register_load_state_dict_pre_hook register_module
    register_parameter register_state_dict_post_hook register_state_dict_pre_hook requires_grad_
    rngs scope self save_pretrained set_attributes set_extra_state set_submodule setup
    share_memory sow state state_dict T_destination tabulate to to_empty torch train training
    type unbind variable variables x xpu zero_grad
    """.split()
)
"""Names that a module's base class or the emitted code uses, in any of the frameworks."""

LONGEST = 40
"""The most characters of an identifier, but for a number: two stand on a line of emitted code."""


def identifier(name: str, taken: frozenset[str] | set[str] = frozenset()) -> str:
    r"""A plain ASCII identifier for `name`, different from all of `taken`.

    >>> identifier("dense_1"), identifier("x\nimport os"), identifier("eval"), identifier("1st")
    ('dense_1', 'x_import_os', 'eval_', 'layer_1st')
    >>> identifier("a/b", {"a_b"})
    'a_b_2'
    """
    found, _ = _numbered(_base(name), taken, 1)
    return found


def _base(name: str) -> str:
    """A plain ASCII identifier for a name."""
    ascii_name = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    base = re.sub(r"[^0-9A-Za-z_]+", "_", ascii_name).strip("_")[:LONGEST].rstrip("_")
    if not base or base[0].isdigit():
        base = f"layer_{base}".rstrip("_")
    if base in RESERVED or keyword.iskeyword(base) or keyword.issoftkeyword(base):
        base += "_"
    return base


def _numbered(base: str, taken: frozenset[str] | set[str], number: int) -> tuple[str, int]:
    """The base, or the first of its numbers from `number` on that is free; and that number."""
    found = base if number == 1 else f"{base}_{number}"
    while found in taken:
        number += 1
        found = f"{base}_{number}"
    return found, number


def identifiers(model: Model) -> Mapping[str, str]:
    """Node name -> identifier, for every node of a model; all different."""
    # every layer's emitter asks for it: stored beside the model's own cached properties
    kept = vars(model).get("_identifiers")
    if kept is None:
        kept = vars(model)["_identifiers"] = _identifiers(model.names)
    return MappingProxyType(kept)


def _identifiers(names: tuple[str, ...]) -> dict[str, str]:
    # a name that is an identifier stays; names of other layers must not take it
    found = {name: name for name in names if _base(name) == name}
    taken = set(found)
    numbers: dict[str, int] = {}
    for name in names:
        if name not in found:
            base = _base(name)
            found[name], numbers[base] = _numbered(base, taken, numbers.get(base, 1))
            taken.add(found[name])
    return found
