// A filter box above every table inside a ".filterable" block. Plain JavaScript on the page's own table, so it
// works from a file and without a server. A row stays when it contains all the words, in any column and any case.
// The words are kept in the address (#filter=...), so that a filtered list can be linked to.
(function () {
  "use strict";

  function fold(text) {
    return text.toLowerCase().normalize("NFKD").replace(/[\u0300-\u036f]/g, "");
  }

  function fromAddress() {
    var match = /[#&]filter=([^&]*)/.exec(window.location.hash);
    return match ? decodeURIComponent(match[1].replace(/\+/g, " ")) : "";
  }

  function toAddress(words) {
    var hash = words ? "#filter=" + encodeURIComponent(words).replace(/%20/g, "+") : " ";
    try {
      window.history.replaceState(null, "", words ? hash : window.location.pathname + window.location.search);
    } catch (error) {
      // Some browsers refuse this for pages opened from a file; the filter works without.
    }
  }

  function equip(block, number) {
    var table = block.querySelector("table");
    if (!table || !table.tBodies.length) {
      return;
    }
    var rows = Array.prototype.map.call(table.tBodies[0].rows, function (row) {
      return { element: row, text: fold(row.textContent) };
    });
    var box = document.createElement("div");
    var id = "filter-" + number;
    box.className = "filter-box";
    box.setAttribute("role", "search");
    box.innerHTML =
      '<label for="' + id + '">Filter</label>' +
      '<input type="search" id="' + id + '" autocomplete="off" spellcheck="false"' +
      ' placeholder="words in any column" aria-controls="' + block.id + '">' +
      '<output for="' + id + '" aria-live="polite"></output>';
    block.insertBefore(box, block.firstChild);
    var input = box.querySelector("input");
    var output = box.querySelector("output");

    function apply() {
      var words = fold(input.value).split(/\s+/).filter(Boolean);
      var shown = 0;
      rows.forEach(function (row) {
        var fits = words.every(function (word) { return row.text.indexOf(word) >= 0; });
        row.element.hidden = !fits;
        shown += fits ? 1 : 0;
      });
      output.textContent = words.length ? shown + " of " + rows.length : rows.length + " rows";
    }

    input.addEventListener("input", function () {
      apply();
      toAddress(input.value.trim());
    });
    input.addEventListener("keydown", function (event) {
      if (event.key === "Escape") {
        input.value = "";
        apply();
        toAddress("");
      }
    });
    input.value = fromAddress();
    apply();
    window.addEventListener("hashchange", function () {
      // A link to one row must not lead to a hidden one.
      input.value = fromAddress();
      apply();
    });
  }

  document.addEventListener("DOMContentLoaded", function () {
    Array.prototype.forEach.call(document.querySelectorAll(".filterable"), equip);
  });
})();
