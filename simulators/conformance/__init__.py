"""The suite every simulator must pass. Shipped, so that yours can pass it too.

Example:
    In your own repository::

        @pytest.mark.parametrize("case", CASES, ids=str)
        def test_mine(case): check(MySimulator(), case)

`checking` says what passing means, `cases` is the suite, `building` makes small graphs for it;
`random_graphs` makes as many more as you like, `growing` is how they stay alive.
"""

from lapilli.simulators.conformance.building import attention_block, neuron_case
from lapilli.simulators.conformance.cases import CASES
from lapilli.simulators.conformance.checking import Case, check

__all__ = ["CASES", "Case", "attention_block", "check", "neuron_case"]
