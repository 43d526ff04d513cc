"""Flink SQL for sqlglot: tokens, types, expressions and queries. Statements are in `statements.py`.

sqlglot accepts far more than Flink does; what the binder does not know by name it refuses, so nothing slips through.
Function calls all become `exp.Anonymous`, whatever their name: their meaning is in `functions.py` and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Self, TypeVar

from sqlglot import exp
from sqlglot.dialects.dialect import Dialect
from sqlglot.errors import ErrorLevel, ParseError
from sqlglot.parser import Parser
from sqlglot.tokenizer_core import Token, TokenType
from sqlglot.tokens import Tokenizer

from qanat.model.types import Kind, Type
from qanat.sql.expression_nodes import TypedCast
from qanat.sql.json_syntax import JsonSyntax
from qanat.sql.source import Source

#: Window table functions: the named arguments in the order of the positional ones, and which are optional.
WINDOW_FUNCTIONS: dict[str, tuple[str, ...]] = {
    "TUMBLE": ("DATA", "TIMECOL", "SIZE", "OFFSET"),
    "HOP": ("DATA", "TIMECOL", "SLIDE", "SIZE", "OFFSET"),
    "CUMULATE": ("DATA", "TIMECOL", "STEP", "SIZE", "OFFSET"),
    "SESSION": ("DATA", "TIMECOL", "GAP"),
}

UNITS = ("MILLISECOND", "SECOND", "MINUTE", "HOUR", "DAY", "WEEK", "MONTH", "QUARTER", "YEAR")

T = TypeVar("T")

_PLAIN_TYPES: dict[str, Kind] = {
    "BOOLEAN": Kind.BOOLEAN,
    "TINYINT": Kind.TINYINT,
    "SMALLINT": Kind.SMALLINT,
    "INT": Kind.INT,
    "INTEGER": Kind.INT,
    "BIGINT": Kind.BIGINT,
    "FLOAT": Kind.FLOAT,
    "DOUBLE": Kind.DOUBLE,
    "STRING": Kind.STRING,
    "BYTES": Kind.BYTES,
    "DATE": Kind.DATE,
    "NULL": Kind.NULL,
}


class PlacedError(ParseError):
    """A parse error with the offset of its token; sqlglot's backtracking catches it as its own."""

    def __init__(self, message: str, at: int, hint: str | None = None, unsupported: bool = False) -> None:
        super().__init__(message, errors=[{"description": message}])
        self.message, self.at, self.hint, self.unsupported = message, at, hint, unsupported


class WindowTable(exp.Expression):
    """A window table function in FROM. `this`: its name; `source`: a table or a query; `time`: the DESCRIPTOR's
    columns; `partition`: columns of SESSION's PARTITION BY; `params`: argument name -> interval."""

    arg_types: ClassVar[dict[str, bool]] = {
        "this": True,
        "source": True,
        "time": True,
        "partition": False,
        "params": True,
        "alias": False,
        "joins": False,
    }


class FlinkTokenizer(Tokenizer):
    """Backticks quote identifiers, two single quotes make one inside a string, no keyword swallows its line."""

    IDENTIFIERS: ClassVar[list[str | tuple[str, str]]] = ["`"]
    IDENTIFIER_ESCAPES: ClassVar[list[str]] = ["`"]
    HEX_STRINGS: ClassVar[list[str | tuple[str, str]]] = [("x'", "'"), ("X'", "'")]
    STRING_ESCAPES: ClassVar[list[str]] = ["'"]
    COMMANDS: ClassVar[set[TokenType]] = set()
    NESTED_COMMENTS = False
    KEYWORDS: ClassVar[dict[str, TokenType]] = {
        key: kind for key, kind in Tokenizer.KEYWORDS.items() if not key.startswith(("{", "/*+"))
    } | {"MATCH_RECOGNIZE": TokenType.MATCH_RECOGNIZE}


class FlinkParser(JsonSyntax):
    """Queries and expressions of Flink SQL. Errors are `PlacedError`."""

    FUNCTIONS: ClassVar[dict[str, Callable[..., Any]]] = {}
    NO_PAREN_FUNCTION_PARSERS: ClassVar[dict[str, Callable[..., Any]]] = {"CASE": lambda self: self._parse_case()}
    FUNCTION_PARSERS: ClassVar[dict[str, Callable[..., Any]]] = {
        "CAST": lambda self: self._parse_typed_cast(safe=False),
        "TRY_CAST": lambda self: self._parse_typed_cast(safe=True),
        "EXTRACT": lambda self: self._parse_unit_from("EXTRACT"),
        "CEIL": lambda self: self._parse_to_unit("CEIL"),
        "CEILING": lambda self: self._parse_to_unit("CEIL"),
        "FLOOR": lambda self: self._parse_to_unit("FLOOR"),
        "TRIM": lambda self: self._parse_trim_call(),
        "POSITION": lambda self: self._parse_position_call(),
        "SUBSTRING": lambda self: self._parse_substring_call(),
        "OVERLAY": lambda self: self._parse_overlay_call(),
        "JSON_EXISTS": lambda self: self.json_exists(),
        "JSON_VALUE": lambda self: self.json_value(),
        "JSON_QUERY": lambda self: self.json_query(),
        "JSON_OBJECT": lambda self: self.json_object(),
        "JSON_ARRAY": lambda self: self.json_array(),
    }
    PRIMARY_PARSERS: ClassVar[dict[TokenType, Callable[..., Any]]] = {
        **Parser.PRIMARY_PARSERS,
        TokenType.HEX_STRING: lambda self, token: self._parse_bytes(token),
    }
    PLACEHOLDER_PARSERS: ClassVar[dict[TokenType, Callable[..., Any]]] = {}
    FUNC_TOKENS: ClassVar[set[TokenType]] = {*Parser.FUNC_TOKENS, TokenType.SESSION}
    NO_PAREN_IF_COMMANDS = False

    #: Text that is being parsed; sqlglot makes parsers of its own, which have none.
    source = Source("SQL", "", "")

    def load(self, source: Source, tokens: list[Token]) -> Self:
        """Get ready to parse these tokens of the text."""
        self.reset()
        self.error_level = ErrorLevel.IMMEDIATE
        self.sql = source.sql
        self.source = source
        self._chunks = [tokens]
        self._advance_chunk()
        return self

    # --- errors ----------------------------------------------------------------------------------------------

    def raise_error(self, message: str, token: Token | None = None) -> None:
        """Every parse error of sqlglot's comes through here."""
        raise self.unexpected(message, token)

    def unexpected(self, message: str, token: Token | None = None) -> PlacedError:
        """A parse error with what was found, and the place of the token at which it stopped."""
        found = token or self._curr or self._prev
        ended = not token and not self._curr
        at = (found.end + 1 if ended else found.start) if found else 0
        text = "the end of the statement" if ended else f"`{found.text}`"
        message = message.replace("Expecting", "expected").split(" but got ")[0].rstrip(".")
        if message[1:2].islower():
            message = message[:1].lower() + message[1:]
        if message.startswith(("required keyword", "required argument")):
            message = "incomplete expression"
        return PlacedError(f"{message}, found {text}", at)

    def fail(self, message: str, at: int, hint: str | None = None, unsupported: bool = False) -> PlacedError:
        """An error whose message is complete."""
        return PlacedError(message, at, hint, unsupported)

    def expect(self, *words: str) -> None:
        """The next words, or an error that says which one was expected."""
        for word in words:
            if not self._match_text_seq(word):
                raise self.unexpected(f"expected {word}")

    def expect_token(self, kind: TokenType, text: str) -> None:
        """The next token, or an error."""
        if not self._match(kind):
            raise self.unexpected(f"expected {text}")

    # --- tables ----------------------------------------------------------------------------------------------

    def _parse_table(self, *args: Any, **kwargs: Any) -> exp.Expr | None:
        start = self._curr
        if self._match_pair(TokenType.TABLE, TokenType.L_PAREN):
            node = self._parse_window_table()
            self.expect_token(TokenType.R_PAREN, ")")
        elif start and start.text.upper() in WINDOW_FUNCTIONS and self._next.token_type == TokenType.L_PAREN:
            node = self._parse_window_table()
        else:
            return super()._parse_table(*args, **kwargs)
        node.update_positions(start)
        alias = self._parse_table_alias(alias_tokens=self.TABLE_ALIAS_TOKENS)
        if alias:
            node.set("alias", alias)
        return node

    def _parse_statement(self) -> exp.Expr | None:
        """What follows WITH: a query and nothing else."""
        query = self._parse_select()
        if query is None:
            raise self.unexpected("expected SELECT")
        return query

    def _parse_select_query(self, *args: Any, **kwargs: Any) -> exp.Expr | None:
        # sqlglot also reads queries that begin with FROM
        return None if self._match(TokenType.FROM, advance=False) else super()._parse_select_query(*args, **kwargs)

    def _parse_as_command(self, start: Token) -> exp.Command:
        raise self.unexpected("cannot read this", start)

    def _parse_match_recognize(self) -> exp.MatchRecognize | None:
        if self._match(TokenType.MATCH_RECOGNIZE, advance=False):
            hint = "use SESSION windows or joins on time"
            raise self.fail("MATCH_RECOGNIZE is not supported", self._curr.start, hint, unsupported=True)
        return None

    def _parse_window_table(self) -> WindowTable:
        token = self._curr
        name = token.text.upper() if token else ""
        if name not in WINDOW_FUNCTIONS:
            raise self.unexpected("expected one of " + ", ".join(WINDOW_FUNCTIONS))
        self._advance()
        self.expect_token(TokenType.L_PAREN, "(")
        arguments: dict[str, Any] = {}
        while True:
            key = self._parse_argument_name(name, len(arguments))
            if key in arguments:
                raise self.unexpected(f"{name} takes {key} once")
            arguments[key] = self._parse_window_argument(key)
            if not self._match(TokenType.COMMA):
                break
        self.expect_token(TokenType.R_PAREN, ")")
        required = [key for key in WINDOW_FUNCTIONS[name] if key != "OFFSET"]
        missing = [key for key in required if key not in arguments]
        if missing:
            hint = f"{name}(" + ", ".join(_USAGE[key] for key in required) + ")"
            raise self.fail(f"{name} lacks {' and '.join(missing)}", token.start, hint)
        data, partition = arguments.pop("DATA")
        time = arguments.pop("TIMECOL")
        node = WindowTable(this=name, source=data, time=time, partition=partition, params=arguments)
        return node.update_positions(token)

    def _parse_argument_name(self, function: str, position: int) -> str:
        names = WINDOW_FUNCTIONS[function]
        if self._next and self._next.token_type == TokenType.FARROW:
            key = self._curr.text.upper()
            if key not in names:
                raise self.unexpected(f"{function} takes {', '.join(names)}")
            self._advance(2)
            return key
        if position >= len(names):
            raise self.unexpected(f"{function} takes at most {len(names)} arguments")
        return names[position]

    def _parse_window_argument(self, key: str) -> Any:
        if key == "DATA":
            return self._parse_window_data()
        if key == "TIMECOL":
            self.expect("DESCRIPTOR")
            return self._parse_wrapped_csv(self._parse_id_var)
        interval = self._parse_interval()
        if interval is None:
            raise self.unexpected(f"expected an interval for {key}, such as INTERVAL '1' MINUTE")
        return interval

    def _parse_window_data(self) -> tuple[exp.Expr, list[exp.Expr]]:
        data: exp.Expr | None
        if self._match(TokenType.TABLE):
            data = self._parse_table_parts()
        elif self._match(TokenType.L_PAREN, advance=False):
            data = super()._parse_table()
        else:
            data = None
        if data is None:
            raise self.unexpected("expected TABLE name")
        partition: list[exp.Expr] = []
        if self._match(TokenType.PARTITION_BY):
            wrapped = self._match(TokenType.L_PAREN)
            while True:
                partition.append(self.parse_name())
                # without parentheses a comma ends the argument: PARTITION BY a, DESCRIPTOR(ts)
                more = self._curr and self._curr.token_type == TokenType.COMMA
                if not more or (not wrapped and not self._partition_goes_on()):
                    break
                self._advance()
            if wrapped:
                self.expect_token(TokenType.R_PAREN, ")")
        return data, partition

    def _partition_goes_on(self) -> bool:
        return bool(self._next) and self._next.text.upper() not in ("DESCRIPTOR", "TIMECOL", "GAP")

    # --- expressions -----------------------------------------------------------------------------------------

    def _parse_type(self, parse_interval: bool = True, fallback_to_identifier: bool = False) -> exp.Expr | None:
        if self._curr and self._next and self._next.token_type == TokenType.STRING:
            name = self._curr.text.upper()
            if name in ("DATE", "TIME", "TIMESTAMP") and self._curr.token_type != TokenType.IDENTIFIER:
                return self._parse_time_literal(name)
        interval = self._parse_interval() if parse_interval else None
        if interval is not None:
            return interval
        if fallback_to_identifier:
            return self._parse_id_var()
        return self._parse_column()

    def _parse_time_literal(self, name: str) -> exp.Expr:
        token = self._curr
        self._advance()
        value = self._parse_primary()
        fraction = len(value.name.strip().partition(".")[2]) if value else 0
        precision = None if name == "DATE" else min(fraction, 9)
        node = TypedCast(this=value, to=Type(Kind[name], nullable=False, precision=precision), literal=True)
        return node.update_positions(token)

    def _parse_interval(
        self,
        require_interval: bool = True,  # noqa: ARG002  # sqlglot's signature
        parse_function_unit: bool = True,  # noqa: ARG002
    ) -> exp.Interval | None:
        token = self._curr
        if not self._interval_begins():
            return None
        self._advance()
        sign = "-" if self._match(TokenType.DASH) else ""
        self._advance()
        value = exp.Literal.string(sign + self._prev.text).update_positions(self._prev)
        first = self._parse_unit()
        last = self._parse_unit() if self._match_text_seq("TO") else None
        unit = exp.IntervalSpan(this=first, expression=last) if last else first
        node = exp.Interval(this=value, unit=unit).update_positions(token)
        if "digits" in first.meta:
            # sqlglot makes the unit anew
            node.meta["digits"] = first.meta["digits"]
        return node

    def _interval_begins(self) -> bool:
        if not self._curr or self._curr.token_type != TokenType.INTERVAL or not self._next:
            return False
        following = self._next
        if following.token_type == TokenType.DASH and self._index + 2 < len(self._tokens):
            following = self._tokens[self._index + 2]
        return following.token_type in (TokenType.STRING, TokenType.NUMBER)

    def _parse_paren(self) -> exp.Expr | None:
        node = super()._parse_paren()
        # (later - earlier) DAY TO SECOND
        if not isinstance(node, exp.Paren) or not isinstance(node.this, exp.Sub):
            return node
        if not self._curr or self._curr.token_type == TokenType.IDENTIFIER:
            return node
        if self._curr.text.upper() not in UNITS:
            return node
        at, unit = self._curr, self._parse_unit()
        if self._match_text_seq("TO"):
            self._parse_unit()
        return self._call("INTERVAL", unit, node.this.this, node.this.expression).update_positions(at)

    def _parse_unit(self) -> exp.Expr:
        """A unit of time, in singular; the digits of `SECOND(3)` go to the node's meta."""
        text = self._curr.text.upper() if self._curr else ""
        unit = text[:-1] if text.endswith("S") else text
        if unit not in UNITS:
            raise self.unexpected("expected a unit such as SECOND, MINUTE, HOUR or DAY")
        token = self._curr
        self._advance()
        numbers = self._parse_numbers()
        node = exp.Var(this=unit).update_positions(token)
        if numbers:
            node.meta["digits"] = numbers[0]
        return node

    def _parse_function_call(self, *args: Any, **kwargs: Any) -> exp.Expr | None:
        token = self._curr
        node = super()._parse_function_call(*args, **kwargs)
        if node is not None and "start" not in node.meta:
            node.update_positions(token)
        return node

    def _call(self, name: str, *arguments: exp.Expr | None) -> exp.Expr:
        return exp.Anonymous(this=name, expressions=[one for one in arguments if one is not None])

    def _parse_typed_cast(self, safe: bool) -> exp.Expr:
        value = self._parse_disjunction()
        self.expect("AS")
        if self._curr and self._curr.text.upper() in ("CHAR", "BINARY", "VARBINARY"):
            hint = "VARCHAR(n), RPAD(x, n, ' ')" if self._curr.text.upper() == "CHAR" else "BYTES"
            message = f"CAST to {self._curr.text.upper()}(n) is not supported"
            raise self.fail(message, self._curr.start, hint, unsupported=True)
        return TypedCast(this=value, to=self.parse_data_type(), safe=safe)

    def _parse_unit_from(self, name: str) -> exp.Expr:
        unit = self._curr
        self._advance()
        self.expect("FROM")
        return self._call(name, exp.Var(this=unit.text.upper()).update_positions(unit), self._parse_bitwise())

    def _parse_to_unit(self, name: str) -> exp.Expr:
        value = self._parse_disjunction()
        return self._call(name, value, self._parse_unit() if self._match_text_seq("TO") else None)

    def _parse_trim_call(self) -> exp.Expr:
        where = "BOTH"
        for word in ("BOTH", "LEADING", "TRAILING"):
            if self._match_text_seq(word):
                where = word
        text = None if self._match_text_seq("FROM", advance=False) else self._parse_bitwise()
        if self._match_text_seq("FROM"):
            chars, text = text, self._parse_bitwise()
        else:
            chars = None
        return self._call("TRIM", text, chars or exp.Literal.string(" "), exp.Var(this=where))

    def _parse_position_call(self) -> exp.Expr:
        needle = self._parse_bitwise()
        self.expect("IN")
        return self._call("POSITION", needle, self._parse_bitwise())

    def _parse_substring_call(self) -> exp.Expr:
        arguments = [self._parse_bitwise()]
        while self._match(TokenType.COMMA) or self._match_text_seq("FROM") or self._match_text_seq("FOR"):
            arguments.append(self._parse_bitwise())
        return self._call("SUBSTRING", *arguments)

    def _parse_bytes(self, token: Token) -> exp.Expr:
        if self.sql[token.start] not in "xX":
            raise self.unexpected("expected a value; bytes are written x'01ff'", token)
        return exp.HexString(this=token.text).update_positions(token)

    def _parse_overlay_call(self) -> exp.Expr:
        arguments = [self._parse_bitwise()]
        for word in ("PLACING", "FROM"):
            self.expect(word)
            arguments.append(self._parse_bitwise())
        if self._match_text_seq("FOR"):
            arguments.append(self._parse_bitwise())
        return self._call("OVERLAY", *arguments)

    # --- types -----------------------------------------------------------------------------------------------

    def parse_data_type(self) -> Type:
        """A type as Flink writes it, with NOT NULL."""
        found = self._parse_base_type()
        while self._match_text_seq("ARRAY"):
            found = Type(Kind.ARRAY, element=found)
        if self._match_text_seq("NOT", "NULL"):
            return found.with_nullable(False)
        self._match_text_seq("NULL")
        return found

    def _parse_base_type(self) -> Type:
        token = self._curr
        name = token.text.upper() if token else ""
        if not token or token.token_type == TokenType.IDENTIFIER:
            raise self.unexpected("expected a type")
        self._advance()
        match name:
            case "CHAR" | "VARCHAR":
                numbers = self._parse_numbers()
                return Type(Kind.STRING, precision=numbers[0] if numbers else 1 if name == "CHAR" else None)
            case "BINARY" | "VARBINARY":
                self._parse_numbers()
                return Type(Kind.BYTES)
            case "DOUBLE PRECISION":
                return Type(Kind.DOUBLE)
            case "DECIMAL" | "DEC" | "NUMERIC":
                return self._decimal_type(token)
            case "TIME":
                numbers = self._parse_numbers()
                self._match_text_seq("WITHOUT", "TIME", "ZONE")
                return Type(Kind.TIME, precision=numbers[0] if numbers else 0)
            case "TIMESTAMP" | "TIMESTAMP_LTZ":
                return self._timestamp_type(token)
            case "ARRAY":
                return Type(Kind.ARRAY, element=self._parse_inner(self.parse_data_type))
            case "MAP":
                key, value = self._parse_inner(self._parse_pair)
                return Type(Kind.MAP, key=key, element=value)
            case "ROW":
                return Type(Kind.ROW, fields=self._parse_row_fields())
            case _ if name in _PLAIN_TYPES:
                return Type(_PLAIN_TYPES[name])
        hint = "types: " + ", ".join([*_PLAIN_TYPES, "DECIMAL(p, s)", "VARCHAR(n)", "TIMESTAMP(3)", "TIMESTAMP_LTZ(3)"])
        hint += ", ARRAY<T>, MAP<K, V>, ROW<name T, ...>"
        raise self.fail(f"no type is called {token.text}", token.start, hint, name in ("MULTISET", "RAW", "VARIANT"))

    def _parse_numbers(self) -> list[int]:
        if not self._match(TokenType.L_PAREN):
            return []
        numbers: list[int] = []
        while not numbers or self._match(TokenType.COMMA):
            if not self._match(TokenType.NUMBER):
                raise self.unexpected("expected a number")
            numbers.append(int(self._prev.text))
        self.expect_token(TokenType.R_PAREN, ")")
        return numbers

    def _decimal_type(self, token: Token) -> Type:
        precision, scale = ([*self._parse_numbers(), 0] if self._curr.text == "(" else [10, 0])[:2]
        if not (1 <= precision <= 38 and 0 <= scale <= precision):
            raise self.fail(
                f"DECIMAL({precision}, {scale}) is not possible", token.start, "DECIMAL(p, s), s <= p <= 38"
            )
        return Type(Kind.DECIMAL, precision=precision, scale=scale)

    def _timestamp_type(self, token: Token) -> Type:
        numbers = self._parse_numbers()
        precision = numbers[0] if numbers else 6
        kind = Kind.TIMESTAMP if token.text.upper() == "TIMESTAMP" else Kind.TIMESTAMP_LTZ
        if self._match_text_seq("WITH", "LOCAL", "TIME", "ZONE"):
            kind = Kind.TIMESTAMP_LTZ
        elif self._match_text_seq("WITH", "TIME", "ZONE"):
            raise self.fail("TIMESTAMP WITH TIME ZONE is not a type of Flink", token.start, "TIMESTAMP_LTZ(3)")
        else:
            self._match_text_seq("WITHOUT", "TIME", "ZONE")
        if precision > 9:
            raise self.fail(f"precision {precision} is not possible", token.start, "0 to 9 digits")
        return Type(kind, precision=precision)

    def _parse_inner(self, parse: Callable[[], T]) -> T:
        if not self._match(TokenType.LT):
            raise self.unexpected("expected <")
        inner = parse()
        if not self._match(TokenType.GT):
            raise self.unexpected("expected >")
        return inner

    def _parse_pair(self) -> tuple[Type, Type]:
        key = self.parse_data_type()
        self.expect_token(TokenType.COMMA, ",")
        return key, self.parse_data_type()

    def _parse_row_fields(self) -> tuple[tuple[str, Type], ...]:
        opening = TokenType.LT if self._curr and self._curr.token_type == TokenType.LT else TokenType.L_PAREN
        self.expect_token(opening, "<")
        fields: list[tuple[str, Type]] = []
        while not fields or self._match(TokenType.COMMA):
            name = self.parse_name()
            fields.append((name.name, self.parse_data_type()))
            if self._match_text_seq("COMMENT"):
                self._advance()
            self._match(TokenType.STRING)
        self.expect_token(TokenType.GT if opening == TokenType.LT else TokenType.R_PAREN, ">")
        return tuple(fields)

    def parse_name(self) -> exp.Identifier:
        """One identifier, quoted or not."""
        token = self._curr
        node = self._parse_id_var(any_token=False)
        if not isinstance(node, exp.Identifier):
            raise self.unexpected("expected a name")
        if "start" not in node.meta:
            node.update_positions(token)
        return node


_USAGE = {
    "DATA": "TABLE t",
    "TIMECOL": "DESCRIPTOR(ts)",
    "SIZE": "INTERVAL '10' MINUTE",
    "SLIDE": "INTERVAL '1' MINUTE",
    "STEP": "INTERVAL '1' MINUTE",
    "GAP": "INTERVAL '5' SECOND",
}


class Flink(Dialect):
    """The dialect, as sqlglot wants it."""

    INDEX_OFFSET = 0
    Tokenizer = FlinkTokenizer
    Parser = FlinkParser
