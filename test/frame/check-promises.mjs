// Finds promises that nobody awaits where Biome's noFloatingPromises cannot see them: it does not know the types of
// Node's own modules and of some libraries (`rm(directory);` or `once(child, 'close');` pass unnoticed). Same rule, asked
// of the TypeScript compiler: a statement must not be a promise, unless it says `void` or handles the rejection itself.
import { relative } from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';

const checkout = fileURLToPath(new URL('../..', import.meta.url));

/** @param {string} directory */
function programOf(directory) {
  const file = `${directory}/tsconfig.json`;
  const { config, error } = ts.readConfigFile(file, ts.sys.readFile);
  if (error !== undefined) throw new Error(ts.flattenDiagnosticMessageText(error.messageText, '\n'));
  const { fileNames, options } = ts.parseJsonConfigFileContent(config, ts.sys, directory);
  return ts.createProgram(fileNames, options);
}

/**
 * Whether the expression is `promise.catch(handler)` or `promise.then(handler, handler)`.
 * @param {ts.Expression} expression
 */
function handlesRejection(expression) {
  if (!ts.isCallExpression(expression) || !ts.isPropertyAccessExpression(expression.expression)) return false;
  const method = expression.expression.name.text;
  return method === 'catch' ? expression.arguments.length > 0 : method === 'then' && expression.arguments.length > 1;
}

/**
 * Whether the value goes somewhere: whoever reads the variable can await it.
 * @param {ts.Expression} expression
 */
function isAssignment(expression) {
  if (!ts.isBinaryExpression(expression)) return false;
  const operator = expression.operatorToken.kind;
  return operator >= ts.SyntaxKind.FirstAssignment && operator <= ts.SyntaxKind.LastAssignment;
}

/**
 * @param {ts.TypeChecker} checker
 * @param {ts.Expression} expression
 */
function isPromise(checker, expression) {
  const type = checker.getNonNullableType(checker.getTypeAtLocation(expression));
  const parts = type.isUnion() ? type.types : [type];
  return parts.some((part) => part.getProperty('then') !== undefined && part.getProperty('catch') !== undefined);
}

/**
 * @param {ts.TypeChecker} checker
 * @param {ts.Expression} expression
 */
function isFloating(checker, expression) {
  return !isAssignment(expression) && !handlesRejection(expression) && isPromise(checker, expression);
}

/**
 * @param {ts.TypeChecker} checker
 * @param {ts.SourceFile} file
 * @returns {ts.Node[]}
 */
function floatingPromises(checker, file) {
  /** @type {ts.Node[]} */
  const found = [];
  /** @param {ts.Node} node */
  function visit(node) {
    if (ts.isExpressionStatement(node) && isFloating(checker, node.expression)) found.push(node);
    ts.forEachChild(node, visit);
  }
  visit(file);
  return found;
}

const program = programOf(process.argv[2] ?? checkout);
const checker = program.getTypeChecker();
const files = program
  .getSourceFiles()
  .filter((file) => !file.isDeclarationFile && !file.fileName.includes('/node_modules/'));
let floating = 0;
for (const file of files) {
  for (const node of floatingPromises(checker, file)) {
    const { line, character } = file.getLineAndCharacterOfPosition(node.getStart(file));
    process.stderr.write(
      `${relative(checkout, file.fileName)}:${line + 1}:${character + 1} nobody awaits this promise\n`,
    );
    floating += 1;
  }
}
process.stdout.write(`${files.length} files, ${floating} promises that nobody awaits\n`);
if (floating > 0 || files.length === 0) process.exitCode = 1;
