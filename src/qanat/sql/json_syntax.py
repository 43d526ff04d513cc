"""What SQL/JSON writes in words inside a call: RETURNING, ON EMPTY, ON ERROR, WITH WRAPPER, KEY .. VALUE. A part of the
parser; each call becomes a plain one whose further arguments are literals, as `functions/json.py` says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlglot import exp
from sqlglot.parser import Parser
from sqlglot.tokenizer_core import TokenType

from qanat.model.types import STRING, Type
from qanat.sql.expression_nodes import TypedCast


class JsonSyntax(Parser):
    """Methods of the parser for calls of JSON functions. `parse_data_type`, `expect` are the dialect's parser's."""

    parse_data_type: Callable[[], Type]

    def json_exists(self) -> exp.Expr:
        """JSON_EXISTS(x, path [TRUE|FALSE|UNKNOWN|ERROR ON ERROR])."""
        arguments = self._json_start()
        for word in ("TRUE", "FALSE", "UNKNOWN", "ERROR"):
            if self._match_text_seq(word, "ON", "ERROR"):
                arguments.append(exp.Literal.string(word))
        return _call("JSON_EXISTS", arguments)

    def json_value(self) -> exp.Expr:
        """JSON_VALUE(x, path [RETURNING type] [.. ON EMPTY] [.. ON ERROR])."""
        arguments = self._json_start()
        kind = self.parse_data_type() if self._match_text_seq("RETURNING") else STRING
        found: dict[str, tuple[str, exp.Expr | None]] = {}
        while (behaviour := self._json_behaviour()) is not None:
            event, word, default = behaviour
            found[event] = (word, default)
        if kind is STRING and not found:
            return _call("JSON_VALUE", arguments)
        arguments.append(TypedCast(this=exp.Null(), to=kind))
        for event in ("EMPTY", "ERROR"):
            word, default = found.get(event, ("NULL", None))
            arguments += [exp.Literal.string(word), default or exp.Null()]
        return _call("JSON_VALUE", arguments)

    def json_query(self) -> exp.Expr:
        """JSON_QUERY(x, path [RETURNING type] [WITH .. WRAPPER] [.. ON EMPTY] [.. ON ERROR])."""
        arguments = self._json_start()
        kind = self.parse_data_type() if self._match_text_seq("RETURNING") else STRING
        wrapper = self._json_wrapper()
        found = {"EMPTY": "NULL", "ERROR": "NULL"}
        while True:
            for words in (("NULL",), ("ERROR",), ("EMPTY", "ARRAY"), ("EMPTY", "OBJECT")):
                event = next((one for one in found if self._match_text_seq(*words, "ON", one)), None)
                if event is not None:
                    found[event] = words[-1]
                    break
            else:
                break
        if (kind, wrapper, *found.values()) == (STRING, "WITHOUT", "NULL", "NULL"):
            return _call("JSON_QUERY", arguments)
        arguments.append(TypedCast(this=exp.Null(), to=kind))
        arguments += [exp.Literal.string(one) for one in (wrapper, found["EMPTY"], found["ERROR"])]
        return _call("JSON_QUERY", arguments)

    def json_object(self) -> exp.Expr:
        """JSON_OBJECT([KEY] 'k' VALUE v, 'k': v, ... [NULL|ABSENT ON NULL])."""
        pairs: list[exp.Expr] = []
        if not self._at_end_of_values():
            while True:
                self._match_text_seq("KEY")
                # not a whole expression: `'k': v` would be read as a path into 'k'
                key = self._parse_primary()
                if key is None or not (self._match_text_seq("VALUE") or self._match(TokenType.COLON)):
                    self.raise_error("Expecting 'key' VALUE value")
                pairs += [key or exp.Null(), self._json_operand()]
                if not self._match(TokenType.COMMA):
                    break
        return _call("JSON_OBJECT", [exp.Literal.string(self._json_nulls("NULL")), *pairs])

    def json_array(self) -> exp.Expr:
        """JSON_ARRAY(v, ... [NULL|ABSENT ON NULL])."""
        values: list[exp.Expr] = []
        if not self._at_end_of_values():
            values.append(self._json_operand())
            while self._match(TokenType.COMMA):
                values.append(self._json_operand())
        return _call("JSON_ARRAY", [exp.Literal.string(self._json_nulls("ABSENT")), *values])

    def _json_start(self) -> list[exp.Expr]:
        text = self._parse_disjunction()
        if not self._match(TokenType.COMMA):
            self.raise_error("Expecting ,")
        path = self._parse_bitwise()
        return [text or exp.Null(), path or exp.Null()]

    def _json_behaviour(self) -> tuple[str, str, exp.Expr | None] | None:
        for word in ("NULL", "ERROR"):
            for event in ("EMPTY", "ERROR"):
                if self._match_text_seq(word, "ON", event):
                    return event, word, None
        if not self._match_text_seq("DEFAULT"):
            return None
        default = self._parse_bitwise()
        for event in ("EMPTY", "ERROR"):
            if self._match_text_seq("ON", event):
                return event, "DEFAULT", default
        self.raise_error("Expecting ON EMPTY or ON ERROR")
        return None

    def _json_wrapper(self) -> str:
        if self._match_text_seq("WITHOUT"):
            found = "WITHOUT"
        elif self._match_text_seq("WITH"):
            found = "CONDITIONAL" if self._match_text_seq("CONDITIONAL") else "UNCONDITIONAL"
            self._match_text_seq("UNCONDITIONAL")
        else:
            return "WITHOUT"
        self._match_text_seq("ARRAY")
        if not self._match_text_seq("WRAPPER"):
            self.raise_error("Expecting WRAPPER")
        return found

    def _json_operand(self) -> exp.Expr:
        if self._match_text_seq("JSON", advance=False) and self._next and self._next.token_type == TokenType.L_PAREN:
            self._advance(2)
            value = self._parse_disjunction()
            self._match_r_paren()
            return _call("AS JSON", [value or exp.Null()])
        return self._parse_disjunction() or exp.Null()

    def _json_nulls(self, default: str) -> str:
        for word in ("NULL", "ABSENT"):
            if self._match_text_seq(word, "ON", "NULL"):
                return word
        return default

    def _at_end_of_values(self) -> bool:
        if self._curr and self._curr.token_type == TokenType.R_PAREN:
            return True
        following = self._next.text.upper() if self._next else ""
        return bool(self._curr) and self._curr.text.upper() in ("NULL", "ABSENT") and following == "ON"


def _call(name: str, arguments: list[exp.Expr]) -> exp.Expr:
    made: Any = exp.Anonymous(this=name, expressions=arguments)
    return made  # type: ignore[no-any-return]
