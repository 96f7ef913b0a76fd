// The arithmetic of GitHub Classroom's reporter, written from a description of it: the table computes
// (passed tests / tests) x max_score and ignores `score`; the notice adds up each test's `score`.
// Usage: RUNNERS=build,train BUILD_RESULTS=base64 TRAIN_RESULTS=base64 node reporter.mjs
const runners = (process.env.RUNNERS ?? "").split(",").map((name) => {
  const text = process.env[`${name.toUpperCase()}_RESULTS`];
  return { name, results: JSON.parse(Buffer.from(text, "base64").toString("utf8")) };
});

let table = 0;
let notice = 0;
let maximum = 0;
for (const { results } of runners) {
  const passed = results.tests.filter((test) => test.status === "pass").length;
  table += (passed / results.tests.length) * (results.max_score || 1);
  if (!results.max_score) continue;
  maximum += results.max_score;
  for (const test of results.tests) notice += test.score;
}
// With nothing to win there is no notice, and so no score.
console.log(JSON.stringify({ table, notice: maximum ? notice : null, maximum }));
