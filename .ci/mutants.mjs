// Where a source file can be broken: parses it without its types and lists one change after the other.
import { Parser } from "acorn";
import { transformSync } from "esbuild";

/** What is done to a program; each mutant is one of these at one place. */
export const OPERATORS = {
  "negate-condition": "if (a) → if (!(a)), also of loops and ?:",
  boundary: "< ↔ <=, > ↔ >=",
  equality: "=== ↔ !==",
  arithmetic: "+ ↔ -, * ↔ /, % → *, also += and ++",
  bits: "& ↔ |, ^ → &, << ↔ >>>, also &= and |=",
  logical: "&& ↔ ||, ?? → &&",
  "remove-not": "!a → a, ~a → a",
  constant: "a number by one, up or down; true ↔ false",
  "drop-statement": "a call, an assignment or a throw is left out",
  "return-early": "a function returns before it does anything",
};

const SWAPS = new Map(
  Object.entries({
    boundary: { "<": "<=", "<=": "<", ">": ">=", ">=": ">" },
    equality: { "===": "!==", "!==": "===", "==": "!=", "!=": "==" },
    arithmetic: { "+": "-", "-": "+", "*": "/", "/": "*", "%": "*", "+=": "-=", "-=": "+=", "++": "--", "--": "++" },
    bits: {
      "&": "|",
      "|": "&",
      "^": "&",
      "<<": ">>>",
      ">>": "<<",
      ">>>": "<<",
      "&=": "|=",
      "|=": "&=",
      "<<=": ">>>=",
      ">>>=": "<<=",
    },
    logical: { "&&": "||", "||": "&&", "??": "&&" },
  }).flatMap(([operator, swaps]) => Object.entries(swaps).map(([from, to]) => [from, { operator, to }])),
);

/**
 * A name of this kind holds the version of saved states, or a text: both sides of every test read the same one, so that
 * no test can tell it from another.
 */
const UNTELLABLE = /(^|_)VERSION$/;

/** A program without its types, as it is run while it is being broken. @returns { code, map } */
export const withoutTypes = (source, name) =>
  transformSync(source, {
    loader: "ts",
    target: "esnext",
    sourcemap: "external",
    sourcefile: name,
    sourcesContent: false,
  });

/** @returns { code, mutants: [{ operator, start, end, text, line, was, now }] }: `code` has no types, `line` is the source's */
export function mutantsOf(source, name) {
  const { code, map } = withoutTypes(source, name);
  const lineOf = originalLines(code, JSON.parse(map).mappings);
  const mutants = [];
  const add = (operator, start, end, text, node) => {
    const was = code.slice(node.start, node.end);
    const now = code.slice(node.start, start) + text + code.slice(end, node.end);
    mutants.push({ operator, start, end, text, line: lineOf(start), was: short(was), now: short(now) });
  };
  const isString = (node) =>
    node.type === "TemplateLiteral" ||
    (node.type === "Literal" && typeof node.value === "string") ||
    (node.type === "BinaryExpression" && node.operator === "+" && (isString(node.left) || isString(node.right)));
  /** The place of an operator between two operands. */
  const swap = (node, from, to) => {
    const swapped = SWAPS.get(node.operator);
    if (swapped === undefined) return;
    const start = code.indexOf(node.operator, from);
    if (start < from || start + node.operator.length > to) return;
    add(swapped.operator, start, start + node.operator.length, swapped.to, node);
  };
  const condition = (test, node) => {
    if (test === null) return;
    const inner = code.slice(test.start, test.end);
    add("negate-condition", test.start, test.end, `!(${inner})`, { start: node.start, end: test.end });
  };

  const visit = (node, parent) => {
    if (node === null || typeof node !== "object") return;
    if (Array.isArray(node)) {
      for (const one of node) visit(one, parent);
      return;
    }
    if (typeof node.type !== "string") return;
    switch (node.type) {
      case "ImportDeclaration":
      case "ExportAllDeclaration":
      case "TemplateLiteral":
        return;
      case "ThrowStatement": // what it says is text; that it is thrown is behaviour
        add("drop-statement", node.start, node.end, ";", node);
        return;
      case "VariableDeclarator":
        if (UNTELLABLE.test(node.id.name ?? "")) return;
        break;
      case "IfStatement":
      case "WhileStatement":
      case "ForStatement":
      case "ConditionalExpression":
      case "DoWhileStatement":
        condition(node.test, node);
        break;
      case "BinaryExpression":
        if (!(node.operator === "+" && isString(node))) swap(node, node.left.end, node.right.start);
        break;
      case "LogicalExpression":
      case "AssignmentExpression":
        swap(node, node.left.end, node.right.start);
        break;
      case "UpdateExpression":
        if (node.prefix) swap(node, node.start, node.argument.start);
        else swap(node, node.argument.end, node.end);
        break;
      case "UnaryExpression":
        if (node.operator === "!" || node.operator === "~")
          add("remove-not", node.start, node.argument.start, "", node);
        break;
      case "Literal":
        literal(node, parent);
        return;
      case "ExpressionStatement":
        if (node.directive === undefined && !/^super\b/.test(code.slice(node.start)))
          add("drop-statement", node.start, node.end, ";", node);
        break;
      case "FunctionDeclaration":
      case "FunctionExpression":
      case "ArrowFunctionExpression":
        early(node, parent);
        break;
    }
    for (const key of Object.keys(node)) if (key !== "type") visit(node[key], node);
  };
  const literal = (node, parent) => {
    const isName = (parent.type === "Property" || parent.type === "PropertyDefinition") && parent.key === node;
    if (isName) return;
    const around = code.slice(Math.max(0, node.start - 24), node.end + 12);
    const shown = {
      start:
        node.start -
        (
          code
            .slice(Math.max(0, node.start - 24), node.start)
            .split("\n")
            .pop() ?? ""
        ).length,
      end: node.end,
    };
    if (typeof node.value === "boolean") add("constant", node.start, node.end, String(!node.value), shown);
    else if (typeof node.value === "number" && around !== "") {
      add("constant", node.start, node.end, String(node.value + 1), shown);
      if (node.value > 0) add("constant", node.start, node.end, String(node.value - 1), shown);
    }
  };
  const early = (node, parent) => {
    if (node.body.type !== "BlockStatement" || node.body.body.length === 0) return;
    if (parent.type === "MethodDefinition" && parent.kind === "constructor") return; // its fields would be missing at once
    const head = {
      start: Math.min(node.start, parent.type === "MethodDefinition" ? parent.start : node.start),
      end: node.body.start + 1,
    };
    add("return-early", node.body.start + 1, node.body.start + 1, " return;", head);
  };
  visit(Parser.parse(code, { ecmaVersion: "latest", sourceType: "module" }), { type: "Program" });
  return { code, mutants };
}

const short = (text) => {
  const line = text.replace(/\s+/g, " ").trim();
  return line.length > 100 ? `${line.slice(0, 60)} … ${line.slice(-36)}` : line;
};

const DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/** From an index in the code to a line of the source: the mapping of a source map (VLQ) that stands last before it. */
function originalLines(code, mappings) {
  const starts = [0];
  for (let at = code.indexOf("\n"); at >= 0; at = code.indexOf("\n", at + 1)) starts.push(at + 1);
  const places = []; // [index in code, line of source], ascending
  let line = 0; // each number in a map is relative to the one before; the third of a segment is the source's line
  for (const [row, segments] of mappings.split(";").entries()) {
    let column = 0;
    for (const segment of segments.split(",").filter(Boolean)) {
      const numbers = [];
      let value = 0;
      let shift = 0;
      for (const character of segment) {
        const digit = DIGITS.indexOf(character);
        value += (digit & 31) * 2 ** shift;
        shift += 5;
        if ((digit & 32) !== 0) continue;
        numbers.push(value % 2 === 1 ? -Math.floor(value / 2) : value / 2);
        value = shift = 0;
      }
      column += numbers[0];
      if (numbers.length < 4) continue;
      line += numbers[2];
      places.push([starts[row] + column, line + 1]);
    }
  }
  return (index) => {
    let [low, high] = [0, places.length];
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (places[middle][0] <= index) low = middle;
      else high = middle;
    }
    return places[low]?.[1] ?? 1;
  };
}
