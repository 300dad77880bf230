# Fit multiple membership models with known equal weights by lme4: point estimates with a summary.
#
# usage: Rscript lme4.R gaussian|binomial FOLDER
#
# FOLDER has one data set per file, data_*.csv, with a row per membership, sorted by group: member,
# group, x (of the member), z and y (of the group). Prints one line of JSON.
#
# lme4 has no multiple membership. The usual way: lFormula() makes the model with a placeholder
# factor that has as many levels as there are members; its indicator matrix is then replaced by the
# membership matrix of the weights.
#
# What is timed starts with a table of groups and the membership matrix, and ends with summary().
# Making these two from the memberships is timed separately.
suppressPackageStartupMessages(library(lme4))
arguments <- commandArgs(trailingOnly = TRUE)
family <- arguments[1]
files <- sort(Sys.glob(file.path(arguments[2], "data_*.csv")))

cpu <- function() sum(proc.time()[c("user.self", "sys.self")])

groups_and_weights <- function(memberships) {
  group <- match(memberships$group, unique(memberships$group))
  member <- match(memberships$member, unique(memberships$member))
  weight <- 1 / tabulate(group)[group]
  first <- !duplicated(group)
  table <- data.frame(
    y = memberships$y[first],
    z = memberships$z[first],
    x = as.vector(rowsum(weight * memberships$x, group)),
    member = factor(rep_len(seq_len(max(member)), max(group)), seq_len(max(member)))
  )
  list(table = table, Zt = sparseMatrix(i = member, j = group, x = weight))
}

gaussian_fit <- function(data) {
  model <- lFormula(y ~ 1 + z + x + (1 | member), data$table, REML = TRUE)
  model$reTrms$Zt <- data$Zt
  deviance <- do.call(mkLmerDevfun, model)
  optimum <- optimizeLmer(deviance)
  mkMerMod(environment(deviance), optimum, model$reTrms, model$fr)
}

binomial_fit <- function(data) {
  model <- glFormula(y ~ 1 + z + x + (1 | member), data$table, family = binomial)
  model$reTrms$Zt <- data$Zt
  deviance <- do.call(mkGlmerDevfun, model)
  optimum <- optimizeGlmer(deviance)
  deviance <- updateGlmerDevfun(deviance, model$reTrms)
  optimum <- optimizeGlmer(deviance, stage = 2)
  mkMerMod(environment(deviance), optimum, model$reTrms, model$fr)
}

fit <- switch(family, gaussian = gaussian_fit, binomial = binomial_fit)
tables <- lapply(files, read.csv)
started <- cpu()
data <- lapply(tables, groups_and_weights)
preparing <- cpu() - started
for (k in seq_len(min(5, length(data)))) invisible(summary(fit(data[[k]])))  # byte-compiled then

estimates <- matrix(NA, length(data), 4)
started <- cpu()
for (k in seq_along(data)) {
  found <- fit(data[[k]])
  table <- summary(found)
  estimates[k, ] <- c(table$coefficients[, "Estimate"], attr(table$varcor$member, "stddev"))
}
fitting <- cpu() - started

cat(sprintf(
  '{"fits": %d, "fit": %.6f, "prepare": %.6f, "means": [%s]}\n',
  length(data), fitting / length(data), preparing / length(data),
  paste(sprintf("%.4f", colMeans(estimates)), collapse = ", ")
))
