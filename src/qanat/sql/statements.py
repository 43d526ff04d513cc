"""Statements of a script: split at semicolons, parsed into values. Names and types are not looked at here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from sqlglot import exp
from sqlglot.errors import ParseError, TokenError
from sqlglot.tokenizer_core import Token, TokenType

from qanat.model.types import Type
from qanat.sql.dialect import Flink, FlinkParser, FlinkTokenizer, PlacedError
from qanat.sql.source import Source, near


@dataclass(frozen=True, slots=True)
class Name:
    """An identifier and where it stands."""

    text: str
    at: int


@dataclass(frozen=True, slots=True)
class ColumnDefinition:
    """A column of CREATE TABLE: physical (`type`) or computed (`expression`)."""

    name: Name
    type: Type | None = None
    expression: exp.Expr | None = None


@dataclass(frozen=True, slots=True)
class WatermarkDefinition:
    """WATERMARK FOR `column` AS `expression`."""

    column: Name
    expression: exp.Expr


@dataclass(frozen=True, slots=True)
class Option:
    """One 'key' = 'value' of WITH."""

    key: Name
    value: str
    value_at: int


@dataclass(frozen=True, slots=True)
class CreateTable:
    """CREATE TABLE."""

    name: Name
    columns: tuple[ColumnDefinition, ...]
    watermark: WatermarkDefinition | None
    key: tuple[Name, ...]
    partition_by: tuple[Name, ...]
    options: tuple[Option, ...]
    if_not_exists: bool


@dataclass(frozen=True, slots=True)
class CreateView:
    """CREATE VIEW; `columns` empty: the query's names."""

    name: Name
    columns: tuple[Name, ...]
    query: exp.Expr
    if_not_exists: bool


@dataclass(frozen=True, slots=True)
class Insert:
    """INSERT INTO; `columns` empty: all of the table's."""

    table: Name
    columns: tuple[Name, ...]
    query: exp.Expr
    text: str


@dataclass(frozen=True, slots=True)
class Query:
    """A SELECT by itself."""

    query: exp.Expr
    text: str


@dataclass(frozen=True, slots=True)
class Setting:
    """SET 'key' = 'value'."""

    key: Name
    value: str


@dataclass(frozen=True, slots=True)
class CreateFunction:
    """CREATE FUNCTION name AS 'module.attribute' LANGUAGE PYTHON."""

    name: Name
    reference: Name
    if_not_exists: bool


Statement = CreateTable | CreateView | CreateFunction | Insert | Query | Setting

_REFUSED: dict[str, str] = {
    "DROP": "remove the CREATE statement from the script instead",
    "ALTER": "change the CREATE statement instead",
    "UPDATE": "write INSERT INTO; a stream only grows",
    "DELETE": "write INSERT INTO; a stream only grows",
    "TRUNCATE": "write INSERT INTO; a stream only grows",
    "MERGE": "write INSERT INTO; a stream only grows",
    "USE": "there is one catalog and one database; remove the statement",
    "SHOW": "`qanat explain FILE.sql` lists tables and pipelines",
    "DESCRIBE": "`qanat explain FILE.sql` lists tables and their columns",
    "DESC": "`qanat explain FILE.sql` lists tables and their columns",
    "EXPLAIN": "`qanat explain FILE.sql` shows the plan",
    "RESET": "remove the SET statement instead",
    "ADD": "user functions and jars are not supported",
    "LOAD": "modules are not supported",
    "UNLOAD": "modules are not supported",
    "ANALYZE": "there are no table statistics to gather; remove the statement",
    "CALL": "procedures are not supported",
}


def parse_script(source: Source) -> list[tuple[Statement, Source]]:
    """Every statement of the text, in order, with the text and where in it the statement begins. Raises `SqlError`."""
    statements: list[tuple[Statement, Source]] = []
    in_set = False
    for tokens in _split(source):
        words = [token.text.upper() for token in tokens[:4]]
        if words[:4] == ["EXECUTE", "STATEMENT", "SET", "BEGIN"]:
            in_set, tokens = _open_set(source, in_set, tokens, 4)
        elif words[:3] == ["BEGIN", "STATEMENT", "SET"]:
            in_set, tokens = _open_set(source, in_set, tokens, 3)
        elif words == ["END"] and in_set:
            in_set = False
            continue
        if tokens:
            statement = _parse_one(source, tokens)
            if in_set and not isinstance(statement, Insert):
                raise source.error("a statement set holds INSERT INTO only", tokens[0].start, "close it with END;")
            statements.append((statement, replace(source, start=tokens[0].start)))
    if in_set:
        raise source.error("the statement set is not closed", len(source.sql), "END;")
    return statements


def _open_set(source: Source, is_open: bool, tokens: list[Token], words: int) -> tuple[bool, list[Token]]:
    if is_open:
        raise source.error("a statement set inside a statement set", tokens[0].start, "close the first one with END;")
    return True, tokens[words:]


def _split(source: Source) -> Iterator[list[Token]]:
    try:
        tokens = FlinkTokenizer(dialect=Flink).tokenize(source.sql)
    except TokenError as error:
        raise source.error("a quote or comment is not closed", _unclosed(source.sql)) from error
    statement: list[Token] = []
    for token in tokens:
        if token.token_type != TokenType.SEMICOLON:
            statement.append(token)
        elif statement:
            yield statement
            statement = []
    if statement:
        yield statement


def _unclosed(sql: str) -> int:
    """Where the quote or comment begins that never ends."""
    closing = {"'": "'", "`": "`", "/*": "*/", "--": "\n"}
    at = 0
    while at < len(sql):
        opening = next((mark for mark in closing if sql.startswith(mark, at)), None)
        if opening is None:
            at += 1
            continue
        end = sql.find(closing[opening], at + len(opening))
        if end < 0:
            return at
        at = end + len(closing[opening])
    return max(len(sql) - 1, 0)


#: sqlglot falls over some damaged statements in ways of its own; to the user these are errors of the statement.
_TRIPPED = (ParseError, TokenError, RecursionError, AttributeError, TypeError, ValueError, LookupError, AssertionError)


def _parse_one(source: Source, tokens: list[Token]) -> Statement:
    parser = StatementParser(dialect=Flink).load(source, tokens)
    try:
        return parser.parse_statement()
    except PlacedError as error:
        make = source.unsupported if error.unsupported else source.error
        raise make(error.message, error.at, error.hint) from None
    except _TRIPPED as error:
        raise source.error("cannot read the statement", tokens[0].start) from error


class StatementParser(FlinkParser):
    """One statement. Everything that Flink has and this does not know is refused by name."""

    def parse_statement(self) -> Statement:
        """The statement; all tokens must be used."""
        first = self._curr
        word = first.text.upper()
        statement: Statement
        if word == "CREATE":
            statement = self._parse_create_statement()
        elif word == "INSERT":
            statement = self._parse_insert_into()
        elif word == "SET":
            statement = self._parse_setting()
        elif word in ("SELECT", "WITH", "VALUES", "("):
            statement = Query(self._parse_query(), self._text())
        elif word == "EXECUTE" and self._next.text.upper() == "INSERT":
            self._advance()
            statement = self._parse_insert_into()
        elif word in _REFUSED:
            raise self.fail(f"{word} is not supported", first.start, _REFUSED[word], unsupported=True)
        else:
            hint = "statements: CREATE TABLE, CREATE VIEW, INSERT INTO, SELECT, SET, EXECUTE STATEMENT SET"
            hint = near(word, ["CREATE", "INSERT", "SELECT", "SET", "EXECUTE", "WITH"]) or hint
            raise self.fail(f"expected a statement, found `{first.text}`", first.start, hint)
        if self._curr:
            raise self.unexpected("expected the end of the statement")
        return statement

    def parse_whole_type(self) -> Type:
        """A type and nothing behind it."""
        found = self.parse_data_type()
        if self._curr:
            raise self.unexpected("expected the end of the type")
        return found

    def _text(self) -> str:
        tokens = self._chunks[0]
        return self.source.excerpt(tokens[0].start, tokens[-1].end + 1)

    def _parse_query(self) -> exp.Expr:
        query = self._parse_select()
        if query is None:
            raise self.unexpected("expected SELECT")
        return query

    def _parse_name_at(self) -> Name:
        token = self._curr
        node = self.parse_name()
        if self._curr and self._curr.token_type == TokenType.DOT:
            hint = "names have one part: catalogs and databases are not supported"
            raise self.fail("a name with several parts", token.start, hint, unsupported=True)
        return Name(node.name, token.start)

    def _parse_names(self) -> tuple[Name, ...]:
        self.expect_token(TokenType.L_PAREN, "(")
        names = [self._parse_name_at()]
        while self._match(TokenType.COMMA):
            names.append(self._parse_name_at())
        self.expect_token(TokenType.R_PAREN, ")")
        return tuple(names)

    def _parse_string_at(self) -> Name:
        token = self._curr
        self.expect_token(TokenType.STRING, "a string in single quotes")
        return Name(token.text, token.start)

    # --- CREATE ----------------------------------------------------------------------------------------------

    def _parse_create_statement(self) -> Statement:
        start = self._curr.start
        self._advance()
        if self._match_text_seq("OR", "REPLACE"):
            raise self.fail("CREATE OR REPLACE is not supported", start, "CREATE ... IF NOT EXISTS", unsupported=True)
        self._match_text_seq("TEMPORARY")
        if self._match_text_seq("TABLE"):
            return self._parse_create_table()
        if self._match_text_seq("VIEW"):
            return self._parse_create_view()
        if self._match_text_seq("SYSTEM", "FUNCTION") or self._match_text_seq("FUNCTION"):
            return self._parse_create_function()
        what = self._curr.text.upper() if self._curr else ""
        hint = "CREATE TABLE, CREATE VIEW and CREATE FUNCTION are"
        raise self.fail(f"CREATE {what} is not supported", start, hint, unsupported=True)

    def _parse_create_view(self) -> CreateView:
        exists = self._match_text_seq("IF", "NOT", "EXISTS")
        name = self._parse_name_at()
        columns: tuple[Name, ...] = ()
        if self._curr and self._curr.token_type == TokenType.L_PAREN:
            columns = self._parse_names()
        if self._match_text_seq("COMMENT"):
            self._parse_string_at()
        self.expect("AS")
        return CreateView(name, columns, self._parse_query(), exists)

    def _parse_create_function(self) -> CreateFunction:
        exists = self._match_text_seq("IF", "NOT", "EXISTS")
        name = self._parse_name_at()
        self.expect("AS")
        reference = self._parse_string_at()
        self.expect("LANGUAGE")
        language = self._curr
        if not self._match_text_seq("PYTHON"):
            found = language.text if language else "the end of the statement"
            hint = f"CREATE FUNCTION {name.text} AS 'module.function' LANGUAGE PYTHON"
            raise self.fail(f"functions in {found} are not supported", name.at, hint, unsupported=True)
        return CreateFunction(name, reference, bool(exists))

    def _parse_create_table(self) -> CreateTable:
        exists = self._match_text_seq("IF", "NOT", "EXISTS")
        name = self._parse_name_at()
        columns, watermark, key = self._parse_table_elements()
        if self._match_text_seq("COMMENT"):
            self._parse_string_at()
        partition_by = self._parse_names() if self._match_partitioned_by() else ()
        options = self._parse_options() if self._match(TokenType.WITH) else ()
        for words in (("AS",), ("LIKE",), ("DISTRIBUTED",)):
            if self._match_text_seq(*words, advance=False):
                hint = "declare the columns, then INSERT INTO the table"
                raise self.fail(f"CREATE TABLE ... {words[0]} is not supported", self._curr.start, hint, True)
        return CreateTable(name, columns, watermark, key, partition_by, options, exists)

    def _match_partitioned_by(self) -> bool:
        return bool(self._match_text_seq("PARTITIONED", "BY") or self._match_text_seq("PARTITIONED BY"))

    def _parse_table_elements(
        self,
    ) -> tuple[tuple[ColumnDefinition, ...], WatermarkDefinition | None, tuple[Name, ...]]:
        columns: list[ColumnDefinition] = []
        watermark: WatermarkDefinition | None = None
        key: tuple[Name, ...] = ()
        for word in ("WITH", "AS", "LIKE"):
            if self._match_text_seq(word, advance=False):
                hint = "declare the columns, then INSERT INTO the table"
                raise self.fail("CREATE TABLE without columns is not supported", self._curr.start, hint, True)
        self.expect_token(TokenType.L_PAREN, "( and the columns")
        while True:
            start = self._curr
            if self._match_text_seq("WATERMARK", "FOR"):
                if watermark:
                    raise self.fail("a table has one watermark", start.start)
                watermark = self._parse_watermark()
            elif self._match_constraint():
                key = self._parse_key(start)
            else:
                column, own_key = self._parse_column_definition()
                columns.append(column)
                key = (column.name,) if own_key else key
            if not self._match(TokenType.COMMA):
                break
        self.expect_token(TokenType.R_PAREN, ") or ,")
        return tuple(columns), watermark, key

    def _parse_watermark(self) -> WatermarkDefinition:
        column = self._parse_name_at()
        self.expect("AS")
        expression: exp.Expr | None = self._parse_disjunction()
        if expression is None:
            raise self.unexpected("expected an expression such as ts - INTERVAL '5' SECOND")
        return WatermarkDefinition(column, expression)

    def _match_constraint(self) -> bool:
        if self._match_text_seq("CONSTRAINT"):
            self._parse_name_at()
        return bool(
            self._match_text_seq("PRIMARY", "KEY", advance=False) or self._match_text_seq("PRIMARY KEY", advance=False)
        )

    def _parse_key(self, start: Token) -> tuple[Name, ...]:
        if not self._match_text_seq("PRIMARY", "KEY"):
            self._match_text_seq("PRIMARY KEY")
        key = self._parse_names()
        self._parse_not_enforced(start)
        return key

    def _parse_not_enforced(self, start: Token) -> None:
        if not self._match_text_seq("NOT", "ENFORCED"):
            raise self.fail("a PRIMARY KEY is not checked", start.start, "PRIMARY KEY (...) NOT ENFORCED")

    def _parse_column_definition(self) -> tuple[ColumnDefinition, bool]:
        name = self._parse_name_at()
        if self._match_text_seq("AS"):
            expression = self._parse_disjunction()
            if expression is None:
                raise self.unexpected("expected an expression")
            self._skip_comment()
            return ColumnDefinition(name, expression=expression), False
        kind = self.parse_data_type()
        if self._match_text_seq("METADATA"):
            hint = "take the value from a physical column"
            raise self.fail("METADATA columns are not supported", name.at, hint, unsupported=True)
        start = self._curr
        own_key = bool(self._match_text_seq("PRIMARY", "KEY") or self._match_text_seq("PRIMARY KEY"))
        if own_key:
            self._parse_not_enforced(start)
        self._skip_comment()
        return ColumnDefinition(name, type=kind), own_key

    def _skip_comment(self) -> None:
        if self._match_text_seq("COMMENT"):
            self._parse_string_at()

    def _parse_options(self) -> tuple[Option, ...]:
        self.expect_token(TokenType.L_PAREN, "(")
        options: list[Option] = []
        while not options or self._match(TokenType.COMMA):
            key = self._parse_string_at()
            self.expect_token(TokenType.EQ, "=")
            value = self._parse_string_at()
            options.append(Option(key, value.text, value.at))
        self.expect_token(TokenType.R_PAREN, ") or ,")
        return tuple(options)

    # --- INSERT, SET -----------------------------------------------------------------------------------------

    def _parse_insert_into(self) -> Insert:
        start = self._curr.start
        self._advance()
        if self._match_text_seq("OVERWRITE"):
            raise self.fail("INSERT OVERWRITE is not supported", start, "INSERT INTO", unsupported=True)
        self.expect("INTO")
        table = self._parse_name_at()
        if self._match(TokenType.PARTITION, advance=False):
            hint = "write the partition columns in the SELECT"
            raise self.fail("INSERT INTO ... PARTITION is not supported", self._curr.start, hint, unsupported=True)
        columns: tuple[Name, ...] = ()
        if self._curr and self._curr.token_type == TokenType.L_PAREN and self._next.text.upper() not in _QUERY_WORDS:
            columns = self._parse_names()
        return Insert(table, columns, self._parse_query(), self._text())

    def _parse_setting(self) -> Setting:
        self._advance()
        key = self._parse_string_at()
        self.expect_token(TokenType.EQ, "=")
        return Setting(key, self._parse_string_at().text)


_QUERY_WORDS = ("SELECT", "WITH", "VALUES", "(")


def parse_type(text: str) -> Type:
    """The type that SQL writes so. Raises ValueError."""
    source = Source("type", text, text)
    try:
        tokens = FlinkTokenizer(dialect=Flink).tokenize(text)
        parser = StatementParser(dialect=Flink).load(source, tokens)
        return parser.parse_whole_type()
    except PlacedError as error:
        raise ValueError(error.message) from None
    except _TRIPPED as error:
        raise ValueError("cannot read it") from error
