import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { JsonSplitter, parseJson } from "./json.js";
import { LineReader } from "./line-reader.js";

const readAll = (reader: LineReader, chunks: readonly string[]): (string | null)[] => {
  const lines: (string | null)[] = [];
  for (const chunk of chunks) {
    const bytes = Buffer.from(chunk, "latin1");
    reader.push(bytes, (line) => lines.push(line));
    bytes.fill(0); // the bytes were the caller's
  }
  return lines;
};

test("lines of any length in pieces of any length", () => {
  const chunks = fc.array(fc.string({ unit: fc.constantFrom("a", "b", "\n", " ", "\0", "ÿ"), maxLength: 20 }));
  fc.assert(
    fc.property(chunks, (parts) => {
      const text = parts.join("");
      assert.equal(readAll(new LineReader(), parts), text.split("\n").slice(0, -1));
    }),
  );
});

test("a line that is too long is left out, and the next one is read", () => {
  const reader = new LineReader(8);
  assert.equal(readAll(reader, ["12345678\n123456", "789\nabc\n", "1".repeat(100), "1\nd\n"]), [
    "12345678",
    null,
    "abc",
    null,
    "d",
  ]);
});

const splitAll = (chunks: readonly string[], longest?: number): (string | null)[] => {
  const splitter = new JsonSplitter(longest);
  const values: (string | null)[] = [];
  for (const chunk of chunks) splitter.push(chunk, (value) => values.push(value));
  return values;
};

test("JSON values are cut where they end, whatever is in their strings", () => {
  assert.equal(splitAll(['{"a": "}{"} {"b":[{}]}\r\n', "{'c': '\\'}", "\"'}"]), [
    '{"a": "}{"}',
    '{"b":[{}]}',
    "{'c': '\\'}\"'}",
  ]);
  assert.equal(splitAll(["rubbish\n{}", '"x"\n', "}}[1]"]), ["rubbish", "{}", '"x"', "}", "}", "[1]"]);
});

test("what cannot be JSON any more is told of at once, and the next brace begins anew", () => {
  for (const wrong of ["{\u0001", "{\ufffd", "{'bad \ufffd", "{'a': '\n", "%", "{'a': %d", "#", "{(", '"\t'])
    assert.equal(splitAll([wrong, "{'b': 1}"]), [null, "{'b': 1}"], wrong);
  assert.equal(splitAll(["{]"]), ["{]"]);
  assert.equal(splitAll(["%p and more of it\n", "true\n"]), [null, "true"]);
});

test("however JSON is cut into packets, its values are the same", () => {
  const values = fc.array(fc.dictionary(fc.string(), fc.jsonValue()), { minLength: 1, maxLength: 5 });
  fc.assert(
    fc.property(values, fc.array(fc.integer({ min: 1, max: 9 })), (objects, cuts) => {
      const text = objects.map((object) => JSON.stringify(object)).join("\n");
      const chunks: string[] = [];
      let from = 0;
      for (const cut of cuts) {
        chunks.push(text.slice(from, from + cut));
        from += cut;
      }
      chunks.push(text.slice(from));
      assert.equal(
        splitAll(chunks).map((value) => parseJson(value ?? "")),
        JSON.parse(JSON.stringify(objects)) as unknown[],
      );
    }),
  );
});

test("a value that is too long costs one answer and no memory", () => {
  assert.equal(splitAll([`{"a": "${"x".repeat(100)}"}`, "{}"], 20), [null, "{}"]);
});

test("strings may have single quotes", () => {
  assert.equal(parseJson("{'driver': 'x', \"id\": 'it\\'s \"y\"'}"), { driver: "x", id: 'it\'s "y"' });
  assert.is(parseJson("{'a'"), undefined);
});

test.run();
