// A formula inside a line that is wider than a narrow page gets the class "wide": it scrolls inside itself.
// Only such a formula, since a box that scrolls no longer stands on the line of the text around it.
(function () {
  "use strict";

  function mark() {
    var formulas = document.querySelectorAll(".bd-article mjx-container:not([display=true])");
    Array.prototype.forEach.call(formulas, function (formula) {
      formula.classList.remove("wide");
      var block = formula.closest("p, li, dd, td, th, div");
      formula.classList.toggle("wide", formula.scrollWidth > block.clientWidth);
    });
  }

  window.addEventListener("load", function () {
    if (window.MathJax && window.MathJax.startup) {
      window.MathJax.startup.promise.then(mark);
      window.addEventListener("resize", mark);
    }
  });
})();
