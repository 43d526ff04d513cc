"""What a GraphQL request may cost: fields, times the rows that they are asked of. A rule of validation; pure."""

from __future__ import annotations

from typing import Any

from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    InlineFragmentNode,
    IntValueNode,
    OperationDefinitionNode,
    SelectionSetNode,
    ValidationContext,
    ValidationRule,
)

#: Fields of all rows of an answer: about a fifth of a second of the event loop.
MOST = 20_000
_USUAL, _UNKNOWN = 100, 1000
_LIMIT = "limit"


class CostRule(ValidationRule):
    """Refuses operations that cost more than `MOST`.

    A field costs 1, and what is below a page of rows costs as often as there may be rows in it. A limit that is a
    variable counts as the largest one.
    """

    def __init__(self, context: ValidationContext) -> None:
        super().__init__(context)
        self._fragments = {
            one.name.value: one for one in context.document.definitions if isinstance(one, FragmentDefinitionNode)
        }
        self._costs: dict[str, int] = {}

    def enter_operation_definition(self, node: OperationDefinitionNode, *_: Any) -> None:
        """One operation."""
        cost = self._of(node.selection_set, ())
        if cost > MOST:
            hint = "ask for fewer rows or columns, or use /v1/query"
            text = f"the operation costs {cost}; the most is {MOST}"
            self.report_error(GraphQLError(text, node, extensions={"status": 400, "hint": hint}))

    def _of(self, selection: SelectionSetNode | None, inside: tuple[str, ...]) -> int:
        total = 0
        for node in () if selection is None else selection.selections:
            match node:
                case FieldNode():
                    total += 1 + self._times(node) * self._of(node.selection_set, inside)
                case InlineFragmentNode():
                    total += self._of(node.selection_set, inside)
                case FragmentSpreadNode():
                    total += self._fragment(node.name.value, inside)
        return min(total, MOST * 1000)

    def _fragment(self, name: str, inside: tuple[str, ...]) -> int:
        """What a fragment costs, reckoned once; one inside of itself is refused by another rule."""
        if name in inside or name not in self._fragments:
            return 0
        if name not in self._costs:
            self._costs[name] = self._of(self._fragments[name].selection_set, (*inside, name))
        return self._costs[name]

    def _times(self, node: FieldNode) -> int:
        """How often what is below a field is answered."""
        for argument in node.arguments or ():
            if argument.name.value == _LIMIT:
                return max(1, int(argument.value.value)) if isinstance(argument.value, IntValueNode) else _UNKNOWN
        return _USUAL if self._is_page(node.selection_set, ()) else 1

    def _is_page(self, selection: SelectionSetNode | None, inside: tuple[str, ...]) -> bool:
        for node in () if selection is None else selection.selections:
            match node:
                case FieldNode():
                    found = node.name.value == "rows"
                case InlineFragmentNode():
                    found = self._is_page(node.selection_set, inside)
                case FragmentSpreadNode():
                    name = node.name.value
                    known = name in self._fragments and name not in inside
                    found = known and self._is_page(self._fragments[name].selection_set, (*inside, name))
                case _:
                    found = False
            if found:
                return True
        return False
