"""DynamoDB in memory, as far as the functions use it: conditions, updates, transactions, queries by key and by index."""
import re
import threading

TOKEN = re.compile(r"\s*(<=|>=|<>|[=<>(),]|[#:\w.]+)")
COMPARE = {"=": lambda a, b: a == b, "<>": lambda a, b: a != b, "<": lambda a, b: a < b, "<=": lambda a, b: a <= b,
           ">": lambda a, b: a > b, ">=": lambda a, b: a >= b}


class Refused(Exception):
    """An answer that is an error: its type, and what is in it besides."""

    def __init__(self, kind, **more):
        super().__init__(kind)
        self.kind, self.more = kind, more


def plain(value):
    """A value as it compares: numbers by their size, everything else as it is."""
    (kind, held), = value.items()
    return float(held) if kind == "N" else held


class Expression:
    """Conditions and updates of one call, with its names and values."""

    def __init__(self, call):
        self.names = call.get("ExpressionAttributeNames") or {}
        self.values = call.get("ExpressionAttributeValues") or {}

    def path(self, text):
        return [self.names.get(part, part) for part in text.split(".")]

    def find(self, item, text):
        """The value of a path or a placeholder; None when there is none."""
        if text.startswith(":"):
            return self.values[text]
        value = {"M": item}
        for part in self.path(text):
            value = value.get("M", {}).get(part)
            if value is None:
                return None
        return value

    def holds(self, item, condition):
        if not condition:
            return True
        self.tokens = TOKEN.findall(condition)
        self.item = item or {}
        holds = self.alternatives()
        assert not self.tokens, f"not understood: {self.tokens} in {condition}"
        return holds

    def take(self, *expected):
        if self.tokens and (not expected or self.tokens[0].upper() in expected):
            return self.tokens.pop(0)
        return None

    def alternatives(self):
        holds = self.all_of()
        while self.take("OR"):
            holds = self.all_of() or holds
        return holds

    def all_of(self):
        holds = self.one()
        while self.take("AND"):
            holds = self.one() and holds
        return holds

    def one(self):
        if self.take("("):
            holds = self.alternatives()
            self.take(")")
            return holds
        if self.take("NOT"):
            return not self.one()
        word = self.take()
        if self.take("("):
            arguments = []
            while not self.take(")"):
                arguments.append(self.take())
                self.take(",")
            found = self.find(self.item, arguments[0])
            if word == "begins_with":
                return found is not None and plain(found).startswith(plain(self.find(self.item, arguments[1])))
            return (found is not None) == {"attribute_exists": True, "attribute_not_exists": False}[word]
        found = self.find(self.item, word)
        if self.take("BETWEEN"):
            low = self.find(self.item, self.take())
            self.take("AND")
            high = self.find(self.item, self.take())
            return found is not None and plain(low) <= plain(found) <= plain(high)
        compare = COMPARE[self.take()]
        other = self.find(self.item, self.take())
        return found is not None and other is not None and compare(plain(found), plain(other))

    def update(self, item, expression):
        for clause, part in re.findall(r"(SET|REMOVE)\s+(.*?)(?=\s+(?:SET|REMOVE)\s|$)", expression):
            for one in part.split(","):
                if clause == "REMOVE":
                    item.pop(self.path(one.strip())[0], None)
                else:
                    name, value = (side.strip() for side in one.split("="))
                    item[self.path(name)[0]] = self.find(item, value)


class Tables:
    """`keys`: of each table the names of its two keys."""

    def __init__(self, keys):
        self.keys, self.rows, self.lock = keys, {table: {} for table in keys}, threading.Lock()

    def answer(self, operation, call):
        with self.lock:
            return getattr(self, operation)(call)

    def place(self, table, item):
        return tuple(item[name]["S"] for name in self.keys[table])

    def row(self, call):
        return self.rows[call["TableName"]].get(self.place(call["TableName"], call["Key"]))

    def check(self, call, old):
        if not Expression(call).holds(old, call.get("ConditionExpression")):
            shown = call.get("ReturnValuesOnConditionCheckFailure") == "ALL_OLD" and old
            raise Refused("ConditionalCheckFailedException", message="The conditional request failed", **({"Item": old} if shown else {}))

    def old_for(self, kind, call):
        if kind == "Put":
            return self.rows[call["TableName"]].get(self.place(call["TableName"], call["Item"]))
        return self.row(call)

    def write(self, kind, call):
        rows = self.rows[call["TableName"]]
        if kind == "Put":
            rows[self.place(call["TableName"], call["Item"])] = call["Item"]
        elif kind == "Delete":
            rows.pop(self.place(call["TableName"], call["Key"]), None)
        elif kind == "Update":
            item = dict(self.row(call) or call["Key"])
            Expression(call).update(item, call["UpdateExpression"])
            rows[self.place(call["TableName"], call["Key"])] = item

    def one(self, kind, call):
        old = self.old_for(kind, call)
        self.check(call, old)
        self.write(kind, call)
        return {"Attributes": old} if call.get("ReturnValues") == "ALL_OLD" and old else {}

    def GetItem(self, call):
        item = self.row(call)
        return {"Item": item} if item else {}

    def BatchGetItem(self, call):
        found = {}
        for table, wanted in call["RequestItems"].items():
            rows = [self.rows[table].get(self.place(table, key)) for key in wanted["Keys"]]
            found[table] = [row for row in rows if row]
        return {"Responses": found, "UnprocessedKeys": {}}

    def PutItem(self, call):
        return self.one("Put", call)

    def UpdateItem(self, call):
        return self.one("Update", call)

    def DeleteItem(self, call):
        return self.one("Delete", call)

    def TransactWriteItems(self, call):
        writes = [next(iter(item.items())) for item in call["TransactItems"]]
        reasons = []
        for kind, write in writes:
            try:
                self.check(write, self.old_for(kind, write))
                reasons.append({"Code": "None"})
            except Refused as refused:
                reasons.append({"Code": "ConditionalCheckFailed", "Message": "The conditional request failed", **refused.more})
        if any(reason["Code"] != "None" for reason in reasons):
            raise Refused("TransactionCanceledException", message="Transaction cancelled", CancellationReasons=reasons)
        for kind, write in writes:
            self.write(kind, write)
        return {}

    def Query(self, call):
        expression = Expression(call)
        rows = self.rows[call["TableName"]].values()
        found = [row for row in rows if expression.holds(row, call["KeyConditionExpression"]) and expression.holds(row, call.get("FilterExpression"))]
        found.sort(key=lambda row: self.place(call["TableName"], row), reverse=call.get("ScanIndexForward") is False)
        found = found[:call.get("Limit")]
        return {"Items": found, "Count": len(found), "ScannedCount": len(found)}
